"""The training loop as a whole: equal runs, batching that changes nothing, precision, adapters."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from training_runs import SETTINGS, episodes, largest_difference, metrics, same, stop_after, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from awpo_agent import learner
from awpo_agent.advantages import ALL_OFF, AWPOSwitches, Stage, awpo, grpo
from awpo_agent.arguments import parse_config
from awpo_agent.batching import make_batch, micro_batches
from awpo_agent.config import AWPOConfig
from awpo_agent.engines.hf import TransformersEngine
from awpo_agent.judging import JudgeFailure
from awpo_agent.losses import clipped_surrogate
from awpo_agent.policy import plain_weights
from awpo_agent.train import load_model_config, load_policy
from awpo_agent.trainer import AWPOTrainer
from awpo_env.errors import UsageError
from awpo_env.types import Score

GOLDEN = Path(__file__).parent / "golden" / "trainer.json"


def test_the_golden_run_and_its_twin(run):
    one, other = run("one"), run("other")
    assert same(weights(one), weights(other))
    assert metrics(one) == metrics(other)
    assert episodes(one) == episodes(other)
    assert not same(weights(one), weights(run("untrained", learning_rate=1e-12)))
    got = {
        "metrics": [{name: round(value, 4) for name, value in line.items()} for line in metrics(one)],
        "weight_sums": {name: round(float(tensor.double().abs().sum()), 3) for name, tensor in weights(one).items()},
    }
    if os.environ.get("AWPO_WRITE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(got, indent=1) + "\n")
    want = json.loads(GOLDEN.read_text())
    assert got["metrics"] == [pytest.approx(line, abs=2e-3) for line in want["metrics"]]
    assert got["weight_sums"] == pytest.approx(want["weight_sums"], rel=1e-4)


def test_where_all_fail_the_solution_s_score_reaches_the_estimator(run, failing):
    heard, deaf = (run(rule, **failing, awpo_all_wrong=rule) for rule in ("blame", "skip"))
    assert not same(weights(heard), weights(deaf))
    for line in metrics(heard):
        assert line["success_rate"] == 0.0 and line["awpo/frac_judge_alone"] > 0.5 and line["awpo/clip_eps"] == 0.1
        assert 0 < line["awpo/variance_reasoning"] == line["awpo/variance"]
    for episode in episodes(heard):
        # With the solution's 1.0 a group's mean is above its worst, and nobody is praised.
        assert episode["reference"] == 1.0 and episode["advantage"] <= 0
    assert all(line["awpo/variance"] == 0 for line in metrics(deaf))


class SureJudge:
    def score(self, transcripts):
        return [Score(len(transcript.messages[-1]["content"]) % 8 / 8) for transcript in transcripts]


class FallibleJudge:
    """Another judge, out of order from the third step to the fourth; as a callback it learns that a step has ended."""

    def __init__(self, judge):
        self._judge, self._steps_done = judge, 0

    def __call__(self, step, metrics):
        self._steps_done = step

    def score(self, transcripts):
        is_down = self._steps_done in (2, 3)
        return [Score.missing("no connection")] * len(transcripts) if is_down else self._judge.score(transcripts)


def test_a_judge_that_is_down_is_told_once_and_the_run_goes_on_by_outcome(run, caplog):
    judge = FallibleJudge(SureJudge())
    lines = metrics(run(judge=judge, callbacks=[judge]))
    assert [line["judge/missing_rate"] == 1.0 for line in lines] == [False, False, True, True, False]
    assert [line["awpo/variance_reasoning"] > 0 for line in lines] == [True, True, False, False, True]
    assert all(line["grad_norm"] > 0 for line in lines)
    messages = [record.getMessage() for record in caplog.records if record.name == "awpo_agent.judging"]
    assert [message.partition(":")[0] for message in messages] == ["step 2", "step 4"]


def test_a_judge_that_is_down_may_mask_its_episodes_or_end_the_run(run, tmp_path):
    judge = FallibleJudge(SureJudge())
    masked = metrics(run("masked", judge=judge, callbacks=[judge], judge_failure="mask"))
    assert [line["grad_norm"] > 0 for line in masked] == [True, True, False, False, True]
    with pytest.raises(JudgeFailure, match="16 of 16 episodes have no judge score"):
        judge = FallibleJudge(SureJudge())
        run("ended", judge=judge, callbacks=[judge], judge_failure="raise")
    assert (tmp_path / "ended" / "checkpoints" / "checkpoint-2").is_dir()


def test_the_run_folder_holds_what_it_promises(run):
    seen = []
    trainer = run(callbacks=[lambda step, line: seen.append((step, line["step"]))], save_steps=2, save_total_limit=2)
    names = sorted(path.name for path in trainer.folder.iterdir())
    assert names == ["checkpoints", "config.yaml", "episodes.jsonl", "metrics.jsonl"]
    assert sorted(path.name for path in (trainer.folder / "checkpoints").iterdir()) == ["checkpoint-4", "checkpoint-5"]
    assert seen == [(step + 1, step) for step in range(5)]
    records = episodes(trainer)
    assert [record["step"] for record in records] == [step for step in range(5) for _ in range(16)]
    assert [record["group"] for record in records[:16]] == [group for group in range(4) for _ in range(4)]
    assert len({record["task_id"] for record in records[:4]}) == 1  # a group plays one task
    assert any(record["advantage"] for record in records)
    config, _ = parse_config(AWPOConfig, ["--config", str(trainer.folder / "config.yaml")], "test", "Test.")
    assert config == trainer.args


def test_the_checkpoint_is_a_plain_hugging_face_folder(run):
    trainer = run(max_steps=1)
    folder = trainer.folder / "checkpoints" / "checkpoint-1"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert same(weights(trainer), model.state_dict())
    assert tokenizer.chat_template == trainer.chat.tokenizer.chat_template


def test_what_a_device_can_hold_does_not_change_the_update(run):
    # In double precision: AdamW's first steps are as large as the learning rate, however small the gradient is.
    want = weights(run("eight", dtype=torch.float64))
    ways = [{"per_device_train_batch_size": size} for size in (2, 16)]
    ways += [{"per_device_train_tokens": 1000}, {"gradient_checkpointing": True}]
    for number, way in enumerate(ways):
        got = weights(run(f"way-{number}", dtype=torch.float64, **way))
        assert largest_difference(got, want) < 1e-10


def test_awpo_without_its_parts_is_grpo_bit_for_bit(run):
    def plain_awpo(**arguments):
        return awpo(**arguments, switches=ALL_OFF)

    want = run("grpo", advantage_estimator="grpo")
    # Under the same settings otherwise: what the judge thinks of solutions is asked for AWPO alone.
    got = run("off", estimator=plain_awpo, awpo_judge_check="none")
    assert same(weights(got), weights(want))
    assert metrics(got) == metrics(want) and episodes(got) == episodes(want)
    assert not same(weights(run("on")), weights(want))


@pytest.mark.parametrize("name", ["dr_grpo", "rloo", "gdpo", "mixed", "papo"])
def test_every_estimator_trains(run, make_model, name):
    trainer = run(max_steps=1, advantage_estimator=name)
    assert not same(weights(trainer), make_model().state_dict())
    assert metrics(trainer)[0]["awpo/clip_eps"] == 0.2


def test_stages_change_the_switches_at_their_step(run):
    stages = [Stage(from_step=1, gate="none"), Stage(metric="reward", at_least=0.0, coefficient=2.0, gate="hard")]
    trainer = run("staged", awpo_stages=stages, max_steps=3)
    # Step 0 has none; step 1 has the first, and as the reward of step 0 suffices, the second too.
    assert [line["awpo/stage"] for line in metrics(trainer)] == [0, 2, 2]
    assert trainer.estimator.keywords["switches"] == AWPOSwitches(coefficient=2.0, gate="hard")
    assert metrics(run("plain", max_steps=1))[0] == {
        name: value for name, value in metrics(trainer)[0].items() if name != "awpo/stage"
    }
    assert not same(weights(trainer), weights(run("unstaged", max_steps=3)))


def test_stages_are_resumed(run):
    stages = [Stage(metric="reward", at_most=1.0, coefficient=2.0), Stage(from_step=4, gate="hard")]
    want = run("whole", awpo_stages=stages)
    run("parts", awpo_stages=stages, save_steps=3, callbacks=[stop_after(3)])
    # What the first stage waited for is over: the checkpoint has to remember it.
    got = run("parts", awpo_stages=stages, resume_from_checkpoint="last")
    assert same(weights(got), weights(want))
    assert metrics(got) == metrics(want)


def test_stages_need_the_estimator_of_the_settings(run):
    with pytest.raises(UsageError, match="awpo_stages"):
        run(estimator=grpo, awpo_stages=[Stage(from_step=1, gate="none")])


def test_probes_look_and_touch_nothing(run):
    want, got = run("plain"), run("probed", awpo_probe_steps=2)
    assert same(weights(got), weights(want))
    probed = [{name for name in line if name.startswith("probe/")} for line in metrics(got)]
    assert all(not names for names in probed[1::2])
    assert all({"probe/alignment", "probe/grad_cosine"} <= names for names in probed[0::2])
    assert all(-1 <= line["probe/grad_cosine"] <= 1 for line in metrics(got)[0::2])
    others = [{name: value for name, value in line.items() if "probe/" not in name} for line in metrics(got)]
    assert others == metrics(want)


def test_settings_reach_the_estimator(run):
    off = {f"awpo_{name}": value for name, value in dataclasses.asdict(ALL_OFF).items()}
    assert same(weights(run("off", **off)), weights(run("grpo", advantage_estimator="grpo")))


def test_the_settings_decide_and_not_what_the_launcher_says(run, monkeypatch):
    want = run("plain")
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    got = run("launched")
    assert same(weights(got), weights(want)) and metrics(got) == metrics(want)


def test_a_second_run_in_the_same_folder_leaves_its_own_weights(run):
    run(max_steps=3, save_steps=1)
    second = run(max_steps=2, learning_rate=5e-3)
    folder = second.folder / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["checkpoint-2"]
    assert same(weights(second), AutoModelForCausalLM.from_pretrained(folder / "checkpoint-2").state_dict())
    assert len(metrics(second)) == 2
    assert (second.folder / "checkpoints.old" / "checkpoint-3").is_dir()


def test_sequences_without_advantage_are_skipped_exactly(run, monkeypatch):
    def first_groups_only(**arguments):
        got = grpo(**arguments)
        got.advantages_PG[2:] = 0.0
        return got

    rows = []

    def counting(rollouts, wanted, *limits):
        rows.append(list(wanted))
        return micro_batches(rollouts, wanted, *limits)

    monkeypatch.setattr(learner, "micro_batches", counting)
    skipping = run("skipping", estimator=first_groups_only)
    assert rows and all(max(wanted) < 8 for wanted in rows)
    everything = lambda rollouts, wanted, *limits: micro_batches(rollouts, range(len(rollouts)), *limits)  # noqa: E731
    monkeypatch.setattr(learner, "micro_batches", everything)
    assert largest_difference(weights(run("computing", estimator=first_groups_only)), weights(skipping)) < 1e-6


def test_a_batch_without_any_signal_changes_nothing(run, make_model):
    def nothing(**arguments):
        got = grpo(**arguments)
        got.advantages_PG[:] = 0.0
        return got

    def nobody(outcome_valid_PG, **arguments):
        return grpo(outcome_valid_PG=torch.zeros_like(outcome_valid_PG), **arguments)

    for name, estimator in (("nothing", nothing), ("nobody", nobody)):
        trainer = run(name, estimator=estimator, weight_decay=0.1)
        assert same(weights(trainer), make_model().state_dict())
        assert len(metrics(trainer)) == 5


def test_what_was_not_sampled_is_never_read(run, monkeypatch):
    want = weights(run("plain"))

    def poisoned(*arguments):
        batch = make_batch(*arguments)
        batch.old_logprobs_BT[~batch.is_sampled_BT] = torch.nan
        return batch

    monkeypatch.setattr(learner, "make_batch", poisoned)
    assert same(weights(run("poisoned")), want)


def test_the_loss_is_clipped_where_the_estimator_says(run, monkeypatch):
    radii = []

    def spy(logprobs_N, old_logprobs_N, advantages_N, num_tokens, epsilon):
        radii.append(epsilon)
        return clipped_surrogate(logprobs_N, old_logprobs_N, advantages_N, num_tokens, epsilon)

    monkeypatch.setattr(learner, "clipped_surrogate", spy)
    trainer = run(per_device_train_batch_size=16, epsilon=0.3)
    assert radii == [line["awpo/clip_eps"] for line in metrics(trainer)]
    assert all(0.15 <= radius < 0.3 for radius in radii)


def test_several_updates_a_batch_move_away_from_the_sampler(run):
    trainer = run(num_iterations=2, steps_per_generation=2, max_steps=2, learning_rate=2e-2)
    assert all(line["approx_kl"] > 1e-4 and line["clip_ratio"] > 0 for line in metrics(trainer))
    assert all(line["logprob_gap"] < 1e-5 for line in metrics(run("once", max_steps=2)))


class ForeignEngine:
    """Samples as the trainer's own engine does, and reports log-probabilities that are off by `gap`."""

    def __init__(self, model, gap):
        self._engine, self._gap = TransformersEngine(model, max_length=320), gap

    async def generate(self, prompt_ids, sampling):
        completion = await self._engine.generate(prompt_ids, sampling)
        return dataclasses.replace(completion, logprobs=tuple(value - self._gap for value in completion.logprobs))

    def weights_changed(self):
        self._engine.weights_changed()


def test_a_foreign_engine_is_corrected_for(run, make_model):
    def off_by(gap, name, **settings):
        model = make_model()
        # Rewards hang on the text alone, so that a gap in what is reported changes nothing else.
        return run(name, model=model, engine=ForeignEngine(model, gap), max_steps=1, **settings)

    def scaled(**arguments):
        got = grpo(**arguments)
        return dataclasses.replace(got, advantages_PG=got.advantages_PG * 1.5)

    exact = off_by(0.0, "exact", estimator=grpo)
    assert largest_difference(weights(exact), weights(run("own", estimator=grpo, max_steps=1))) < 1e-6
    gap = float(np.log(1.5))
    corrected = off_by(gap, "corrected", estimator=grpo)
    # The ratio of new to old starts at 1, and every token weighs 1.5 times what it did.
    figures = metrics(corrected)[0]
    assert figures["sampling/sampling_logp_difference/mean"] == pytest.approx(gap, abs=1e-5)
    assert figures["sampling/sampling_logp_difference/max"] == pytest.approx(gap, abs=1e-4)
    assert figures["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.5, abs=1e-4)
    assert figures["logprob_gap"] < 1e-5 and figures["clip_ratio"] == 0.0
    assert figures["loss"] == pytest.approx(1.5 * metrics(exact)[0]["loss"], abs=1e-5)
    want = metrics(off_by(0.0, "scaled", estimator=scaled))[0]
    assert figures["grad_norm"] == pytest.approx(want["grad_norm"], rel=1e-4)
    masked = off_by(gap, "masked", importance_sampling_mode="token_mask", importance_sampling_clip_max=1.4)
    assert metrics(masked)[0]["grad_norm"] == 0.0
    taken = metrics(off_by(gap, "taken", importance_sampling_mode="none", estimator=grpo))[0]
    assert taken["logprob_gap"] == pytest.approx(gap, abs=1e-5)
    assert "sampling/importance_sampling_ratio/mean" not in taken


@pytest.fixture
def any_precision():
    """Accelerate keeps the precision of the first accelerator of a process."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def test_mixed_precision_rounds_and_learns(run, any_precision):
    exact = run("exact")
    AcceleratorState._reset_state()
    rounded = run("rounded", bf16=True)
    assert all(tensor.dtype == torch.float32 for tensor in rounded.policy.state_dict().values())
    # Sampling rounds as training does: far closer than a bfloat16 pass to one in single precision.
    assert all(line["logprob_gap"] < 2e-3 for line in metrics(rounded))
    assert metrics(rounded)[0]["entropy"] != metrics(exact)[0]["entropy"]
    assert metrics(rounded)[0]["entropy"] == pytest.approx(metrics(exact)[0]["entropy"], rel=0.02)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft 0.21 asks for it
def test_adapters_are_all_that_is_trained_and_resume(run, make_model):
    settings = {"lora_r": 4, "learning_rate": 1e-2}
    trainer = run("adapters", **settings)
    folder = trainer.folder / "checkpoints" / "checkpoint-5"
    assert (folder / "adapter_model.safetensors").stat().st_size < 60_000
    assert not (folder / "model.safetensors").exists()
    before, after = make_model().state_dict(), weights(trainer)
    kept = {name: after[f"base_model.model.{name}"] for name in before if f"base_model.model.{name}" in after}
    assert kept and all(torch.equal(kept[name], before[name]) for name in kept)
    plain = make_model()
    plain.load_state_dict(dict(plain_weights(trainer.policy)))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        merged, adapted, untrained = plain(ids).logits, trainer.policy.eval()(ids).logits, make_model()(ids).logits
    assert torch.allclose(merged, adapted, atol=1e-5) and not torch.allclose(merged, untrained, atol=1e-3)
    run("parts", **settings, save_steps=3, callbacks=[stop_after(4)])
    checkpoint = str(trainer.folder.parent / "parts" / "checkpoints" / "checkpoint-3")
    assert same(weights(run("parts", **settings, resume_from_checkpoint=checkpoint)), after)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_who_trains_on_from_adapters_trains_on_what_they_learnt(run, model_folder):
    trainer = run("adapters", model=load_policy(str(model_folder))[0], lora_r=4, learning_rate=1e-2)
    loaded, _ = load_policy(str(trainer.folder))
    assert load_model_config(str(trainer.folder)).vocab_size == loaded.config.vocab_size
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        want, got = trainer.policy.eval()(ids).logits, loaded.eval()(ids).logits
    assert torch.allclose(got, want, atol=1e-5)
    assert {name.split(".")[0] for name in loaded.state_dict()} == {"model", "lm_head"} and any(
        parameter.requires_grad for parameter in loaded.parameters()
    )


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_adapters_for_modules_that_are_not_there_are_refused(run):
    with pytest.raises(UsageError, match="lora_target_modules"):
        run(lora_r=4, lora_target_modules=["query"])


def test_dropout_is_turned_off(run, make_model, tokenizer, verdict_env, tmp_path):
    model = make_model()
    model.model.layers[0].mlp.act_fn = torch.nn.Sequential(model.model.layers[0].mlp.act_fn, torch.nn.Dropout(0.5))
    args = AWPOConfig(**{**SETTINGS, "output_dir": str(tmp_path / "dropout"), "judge": "none", "awpo_gate": "none"})
    AWPOTrainer(model, args, verdict_env, processing_class=tokenizer)
    assert [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)] == [0.0]


def test_impossible_settings_are_refused_before_anything_happens(run, tmp_path):
    with pytest.raises(UsageError, match=r"max_steps is 0.*not divisible"):
        run(max_steps=0, generation_batch_size=15)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="there is no checkpoint"):
        run(resume_from_checkpoint="last")

"""Runs that stop, die and go on: as if they never had."""

import dataclasses
import os
import random
import signal
import time

import pytest
import torch
from training_runs import TWO, episodes, lines_of, metrics, same, start, stop_after, weights
from training_world import StuckEngine
from transformers import AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from awpo_agent.engines.base import EngineFailure
from awpo_agent.engines.hf import TransformersEngine
from awpo_env.errors import UsageError
from awpo_env.types import Score


def test_a_resumed_run_equals_one_that_was_never_interrupted(run):
    want = run("whole", lr_scheduler_type="linear", warmup_steps=2)
    run("parts", lr_scheduler_type="linear", warmup_steps=2, save_steps=3, callbacks=[stop_after(4)])
    checkpoint = want.folder.parent / "parts" / "checkpoints" / "checkpoint-3"
    got = run("parts", lr_scheduler_type="linear", warmup_steps=2, resume_from_checkpoint=str(checkpoint))
    assert same(weights(got), weights(want))
    assert metrics(got) == metrics(want)
    assert episodes(got) == episodes(want)


def test_sigterm_ends_the_run_after_the_step(run):
    trainer = run(callbacks=[stop_after(2)])
    assert trainer.step == 2 and len(metrics(trainer)) == 2
    assert (trainer.folder / "checkpoints" / "checkpoint-2" / "model.safetensors").is_file()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    resumed = run(resume_from_checkpoint="last")
    assert same(weights(resumed), weights(run("whole")))


def test_sigterm_drops_the_step_whose_episodes_are_being_played(run, make_model):
    model = make_model()
    stopped = run("stopped", model=model, engine=StuckEngine(model))
    assert stopped.step == 2 and len(metrics(stopped)) == 2
    assert [path.name for path in (stopped.folder / "checkpoints").iterdir()] == ["checkpoint-2"]
    whole, resumed = run("whole"), run("stopped", resume_from_checkpoint="last")
    assert same(weights(resumed), weights(whole)) and metrics(resumed) == metrics(whole)
    assert episodes(resumed) == episodes(whole)


def test_environments_of_episodes_that_were_broken_off_are_closed(run, make_model, verdict_env):
    made, closed = [], []

    class Counted(verdict_env):
        def __init__(self):
            super().__init__()
            made.append(self)

        def close(self):
            closed.append(self)
            super().close()

    model = make_model()
    run(env=Counted, model=model, engine=StuckEngine(model))
    assert len(made) >= 16 and sorted(map(id, closed)) == sorted(map(id, made))


def test_a_resumed_run_follows_the_settings(run):
    for schedule in ("linear", "constant_with_warmup"):
        settings = {"lr_scheduler_type": schedule, "warmup_steps": 2, "weight_decay": 0.1}
        whole = run(f"whole-{schedule}", **settings, learning_rate=2e-3)
        parts = run(f"parts-{schedule}", **settings | {"weight_decay": 0.0}, callbacks=[stop_after(3)])
        resumed = run(f"parts-{schedule}", **settings, learning_rate=2e-3, resume_from_checkpoint="last")
        rates = [line["learning_rate"] for line in metrics(resumed)]
        wanted = [line["learning_rate"] for line in metrics(whole)]
        assert rates[:3] == pytest.approx([rate / 2 for rate in wanted[:3]]) and rates[3:] == wanted[3:]
        (group,) = resumed.learner._optimizer.param_groups
        assert group["weight_decay"] == 0.1 and parts.step == 3


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft 0.21 asks for it
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({}, {"lora_r": 4}, "has trained the whole model, the settings train LoRA adapters alone; set lora_r"),
        ({"lora_r": 4}, {}, "has trained LoRA adapters alone, the settings train the whole model; set lora_r"),
        ({"lora_r": 4}, {"lora_r": 8}, r"lora_A.* is \(4, \d+\), not \(8, \d+\); set model and lora_r"),
        ({"lora_r": 4}, {"lora_r": 4, "lora_alpha": 8}, "with lora_alpha 32, not 8"),
        (
            {"lora_r": 4, "lora_target_modules": ["q_proj"]},
            {"lora_r": 4, "lora_target_modules": ["q_proj", "v_proj"]},
            "adapters for other modules: only one of the two has .*v_proj",
        ),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused_and_nothing_is_read(run, make_model, before, after, message):
    run(max_steps=1, **before)
    with pytest.raises(UsageError, match=message):
        run(max_steps=2, **after, resume_from_checkpoint="last")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_a_resume_that_is_refused_leaves_everything_where_it_was(run):
    folder = run(save_steps=1, max_steps=3, save_total_limit=3).folder / "checkpoints"
    run(save_steps=1, max_steps=3, save_total_limit=3)

    def everything():
        return sorted(path.relative_to(folder.parent).as_posix() for path in folder.parent.rglob("*"))

    before = everything()
    assert any(name.startswith("checkpoints.old/checkpoint-3") for name in before)
    with pytest.raises(UsageError, match="set lora_r as it was"):
        run(lora_r=4, resume_from_checkpoint=str(folder / "checkpoint-1"))
    (folder.parent / "metrics.jsonl").write_text("damaged\n" + (folder.parent / "metrics.jsonl").read_text())
    with pytest.raises(UsageError, match=r"line 1 of .* is damaged"):
        run(resume_from_checkpoint=str(folder / "checkpoint-1"))
    assert everything() == before


def test_a_run_that_ends_at_once_or_trains_twice_keeps_its_checkpoint(run):
    trainer = run(max_steps=2)
    trainer.train()  # there is nothing left to do
    (checkpoint,) = (trainer.folder / "checkpoints").iterdir()
    assert checkpoint.name == "checkpoint-2"
    written = checkpoint.stat().st_mtime_ns
    run(max_steps=2, resume_from_checkpoint="last")
    assert checkpoint.stat().st_mtime_ns == written
    stopped = run("stopped", callbacks=[stop_after(1)])
    stopped.args = dataclasses.replace(stopped.args, resume_from_checkpoint="last")
    stopped.train()
    assert stopped.step == 5


class SlowJudge:
    """Is not done with an episode before there is a checkpoint."""

    def __init__(self, folder):
        self.folder, self.waited = folder, []

    def score(self, transcripts):
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 60
        while not self.folder.is_dir() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.waited.append(self.folder.is_dir())
        return [Score(0.5) for _ in transcripts]


def test_the_checkpoint_waits_for_no_judge_that_is_at_work(run, tmp_path):
    judge = SlowJudge(tmp_path / "run" / "checkpoints" / "checkpoint-0")
    run(judge=judge)
    while len(judge.waited) < 1:
        time.sleep(0.01)
    assert all(judge.waited)


def test_what_a_mixture_of_experts_has_learnt_is_resumed(run, tokenizer):
    # In its folder every expert has weights of its own, in memory they are one.
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=1024,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        attn_implementation="sdpa",
    )

    def model():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Qwen3MoeForCausalLM(config)

    whole = run("whole", model=model(), max_steps=3)
    run("parts", model=model(), max_steps=2)
    parts = run("parts", model=model(), max_steps=3, resume_from_checkpoint="last")
    assert same(weights(parts), weights(whole)) and metrics(parts) == metrics(whole)


def test_an_optimizer_that_was_kept_otherwise_is_refused(run):
    state = run(max_steps=1).folder / "checkpoints" / "checkpoint-1" / "training_state.json"
    state.write_text(state.read_text().replace('"whole"', '"FSDP"'))
    with pytest.raises(UsageError, match="was kept 'FSDP', this launch keeps it 'whole'; launch as it was, or start"):
        run(max_steps=2, resume_from_checkpoint="last")


def test_a_checkpoint_of_another_width_is_refused(run, make_model):
    run(max_steps=1)
    wide = make_model()
    wide.config.intermediate_size = 96
    with pytest.raises(UsageError, match="its intermediate_size is 64, not 96; set model as it was"):
        run(max_steps=2, model=type(wide)(wide.config), resume_from_checkpoint="last")


class PushFails(TransformersEngine):
    """An engine that takes the weights of the start and of two steps, and refuses the next."""

    def __init__(self, model):
        super().__init__(model, max_rows=16, max_length=320)
        self._num_pushes = 0

    def weights_changed(self):
        super().weights_changed()
        self._num_pushes += 1
        if self._num_pushes == 4:
            raise EngineFailure("no room for the weights")


def test_a_push_that_fails_leaves_the_checkpoint_of_a_whole_step(run, make_model, tmp_path):
    whole = run("whole")
    model = make_model()
    with pytest.raises(EngineFailure, match="no room"):
        run("failed", model=model, engine=PushFails(model))
    (checkpoint,) = (tmp_path / "failed" / "checkpoints").iterdir()
    assert checkpoint.name == "checkpoint-3" and len(lines_of(tmp_path / "failed")) == 3
    resumed = run("failed", resume_from_checkpoint="last")
    assert same(weights(resumed), weights(whole)) and metrics(resumed) == metrics(whole)


def test_going_on_from_an_older_checkpoint_leaves_the_newer_ones_behind(run):
    run("run", save_steps=1, save_total_limit=9)
    folder = run("run", save_steps=1, max_steps=1).folder
    older = run("branch", save_steps=1, save_total_limit=9).folder / "checkpoints" / "checkpoint-2"
    branch = run("branch", max_steps=3, save_total_limit=1, resume_from_checkpoint=str(older))
    names = {kind: {path.name for path in (branch.folder / kind).iterdir()} for kind in CHECKPOINTS}
    assert names["checkpoints"] == {"checkpoint-3"}
    assert names["checkpoints.old"] == {f"checkpoint-{step}" for step in (3, 4, 5)}
    assert {path.name for path in (folder / "checkpoints.old").iterdir()} == {f"checkpoint-{n}" for n in range(1, 6)}


CHECKPOINTS = ("checkpoints", "checkpoints.old")


@pytest.mark.slow
def test_sigterm_from_outside_leaves_a_good_checkpoint(model_folder, tmp_path):
    process = start(model_folder, name="stopped", max_steps=10_000)
    steps = tmp_path / "steps"
    while not (steps.exists() and steps.read_text()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    (checkpoint,) = (tmp_path / "stopped" / "checkpoints").iterdir()
    done = int(steps.read_text())
    assert checkpoint.name == f"checkpoint-{done}" and done < 10_000
    assert len((tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()) == done
    AutoModelForCausalLM.from_pretrained(checkpoint)


@pytest.mark.slow
def test_sigterm_for_one_process_stops_all_of_them(model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("STUCK", "1")  # the second process; the first plays its episodes to their ends
    process = start(model_folder, *TWO, name="two")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    (checkpoint,) = (tmp_path / "two" / "checkpoints").iterdir()
    assert checkpoint.name == "checkpoint-2" and len(lines_of(tmp_path / "two")) == 2


@pytest.mark.heavy
def test_a_run_that_is_killed_twenty_times_ends_as_if_nothing_had_happened(model_folder, tmp_path):
    settings = {"max_steps": 60, "save_steps": 1, "lr_scheduler_type": "linear", "num_iterations": 2}
    whole = start(model_folder, name="whole", **settings)
    checkpoints, moments, steps_at_kill = tmp_path / "killed" / "checkpoints", random.Random(0), []
    for kill in range(20):
        has_any = checkpoints.exists() and any(checkpoints.glob("checkpoint-*"))
        process = start(
            model_folder, name="killed", **settings, resume_from_checkpoint="last" if has_any else None, steps="killed"
        )
        steps = tmp_path / "killed.steps"
        steps.unlink(missing_ok=True)
        # Two steps on each time, however fast the machine is, and then a moment: a step takes a quarter of a second.
        while not steps.exists() or int(steps.read_text() or 0) < 2 * (kill + 1):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        time.sleep(moments.uniform(0.0, 0.3))
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        steps_at_kill.append(int(steps.read_text() or 0))
    last = start(model_folder, name="killed", **settings, resume_from_checkpoint="last")
    for process in (whole, last):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert 30 <= max(steps_at_kill) < 60  # the kills fell into the run
    want, got = tmp_path / "whole", tmp_path / "killed"
    for name in ("checkpoints/checkpoint-60/model.safetensors", "episodes.jsonl"):
        assert (got / name).read_bytes() == (want / name).read_bytes()
    assert lines_of(got) == lines_of(want)
    assert [path.name for path in sorted((got / "checkpoints").iterdir())] == ["checkpoint-59", "checkpoint-60"]

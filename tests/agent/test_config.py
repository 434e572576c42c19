"""Settings: every refusal, all of them at once; YAML, flags, and mistakes in one sentence."""

import dataclasses

import pytest
import yaml

from awpo_agent.advantages import CHOICES, AWPOSwitches, Stage
from awpo_agent.arguments import parse_config, to_yaml
from awpo_agent.config import AWPOConfig
from awpo_agent.train import main
from awpo_env.errors import UsageError


def refusal(num_processes=1, **settings):
    with pytest.raises(UsageError) as caught:
        AWPOConfig(**settings).check(num_processes)
    return str(caught.value)


def test_the_defaults_are_possible():
    AWPOConfig().check()
    assert AWPOConfig().num_prompts == 8
    assert AWPOConfig().switches == AWPOSwitches()


def test_switches_come_from_the_settings():
    config = AWPOConfig(
        awpo_gate="hard", awpo_coefficient=2.0, awpo_all_right="reason", awpo_clip="fixed", awpo_difficulty_boost=3.0
    )
    want = AWPOSwitches(gate="hard", coefficient=2.0, all_right="reason", clip="fixed", difficulty_boost=3.0)
    assert config.switches == want
    for name in AWPOSwitches.__slots__:
        value = CHOICES[name][-1] if name in CHOICES else 0.125
        assert getattr(AWPOConfig(**{f"awpo_{name}": value}).switches, name) == value


def test_solutions_are_judged_if_any_stage_hears_the_judge():
    assert AWPOConfig().judges_references
    silent = AWPOConfig(awpo_gate="none")
    assert not silent.judges_references and not AWPOConfig(judge="none").judges_references
    assert not AWPOConfig(advantage_estimator="grpo").judges_references
    assert AWPOConfig(awpo_gate="none", awpo_stages=[Stage(from_step=3, gate="hard")]).judges_references


def test_stages_are_read_from_yaml_and_written_back(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        "awpo_stages:\n- {from_step: 3, gate: none}\n- {metric: success_rate, at_least: 0.5, coefficient: 0.1}\n"
    )
    config, _ = parse_config(AWPOConfig, ["--config", str(file)], "test", "Test.")
    assert config.awpo_stages == [
        Stage(from_step=3, gate="none"),
        Stage(metric="success_rate", at_least=0.5, coefficient=0.1),
    ]
    config.check()
    file.write_text(to_yaml(config))
    assert parse_config(AWPOConfig, ["--config", str(file)], "test", "Test.")[0] == config


def test_impossible_parts_are_refused():
    assert "from_step or metric" in refusal(awpo_stages=[Stage(gate="none")])
    typo = Stage(metric="succes_rate", at_least=0.5, gate="none")
    assert "a stage watches 'succes_rate'" in refusal(awpo_stages=[typo])
    assert "success_rate" in refusal(awpo_stages=[typo]).split("watches 'succes_rate'")[1]
    for low, high in ((0.6, 0.4), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)):
        assert f"awpo_difficulty_low {low} and" in refusal(awpo_difficulty_low=low, awpo_difficulty_high=high)
    assert "awpo_all_wrong is 'ignore', expected one of" in refusal(awpo_all_wrong="ignore")
    assert "awpo_reasoning_scale is 'none', expected one of" in refusal(awpo_reasoning_scale="none")


@pytest.mark.parametrize("name", ["gdpo", "mixed", "papo"])
def test_an_estimator_that_hears_the_judge_needs_one(name):
    assert f"advantage_estimator {name!r} needs a judge" in refusal(advantage_estimator=name, judge="none")
    AWPOConfig(advantage_estimator="rloo", judge="none").check()
    later = [Stage(from_step=9, gate="hard")]
    assert "needs a judge" in refusal(awpo_gate="none", judge="none", awpo_stages=later)


@pytest.mark.parametrize(
    "name",
    [
        "generation_batch_size",
        "max_length",
        "max_turn_length",
        "max_steps",
        "logging_steps",
        "per_device_train_batch_size",
        "num_iterations",
        "steps_per_generation",
        "save_total_limit",
    ],
)
def test_counts_are_at_least_one(name):
    for value in (0, -1):
        assert refusal(**{name: value}).startswith(f"{name} is {value}, expected at least 1")


@pytest.mark.parametrize("name", ["temperature", "learning_rate", "max_grad_norm", "epsilon", "awpo_difficulty_boost"])
def test_sizes_are_above_zero_and_finite(name):
    for value in (0.0, -1.0, float("inf"), float("nan")):
        assert f"{name} is {value}, expected a finite number above 0" in refusal(**{name: value})


@pytest.mark.parametrize(
    "name",
    [
        "warmup_steps",
        "weight_decay",
        "awpo_coefficient",
        "awpo_reasoning_floor",
        "save_steps",
        "seed",
        "awpo_clip_strength",
    ],
)
def test_amounts_are_not_negative(name):
    AWPOConfig(**{name: 0}).check()
    for value in (-1, float("nan"), float("inf")):
        assert f"{name} is {value}, expected a finite number, not negative" in refusal(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("advantage_estimator", "awop", "awpo"),
        ("awpo_gate", "std_ratio_mx", "std_ratio_mix"),
        ("awpo_difficulty", "intervall", "interval"),
        ("awpo_clip", "fix", "fixed"),
        ("lr_scheduler_type", "cosin", "cosine"),
    ],
)
def test_names_are_known(name, value, meant):
    text = refusal(**{name: value})
    assert f"{name} is {value!r}, expected one of" in text and f"Did you mean {meant!r}?" in text


def test_groups_can_be_shared_out():
    assert "num_generations is 1, expected at least 2" in refusal(num_generations=1)
    assert "generation_batch_size 60 is not divisible by num_generations 8; try 56" in refusal(generation_batch_size=60)
    assert "try 8" in refusal(generation_batch_size=4)
    assert "8 groups (generation_batch_size / num_generations) cannot be shared out among 3" in refusal(3)
    assert "choose a multiple of 24 episodes" in refusal(3)
    AWPOConfig(generation_batch_size=48).check(3)
    assert "8 groups cannot be split into steps_per_generation = 3 equal parts" in refusal(steps_per_generation=3)


def test_awpo_needs_a_judge():
    assert "awpo_gate needs a judge" in refusal(judge="none")
    AWPOConfig(judge="none", awpo_gate="none").check()
    AWPOConfig(judge="none", advantage_estimator="grpo").check()


def test_all_problems_are_told_at_once():
    text = refusal(
        max_steps=0, epsilon=-1.0, seed=-1, awpo_gate="x", num_generations=1, judge="none", steps_per_generation=0
    )
    names = ("max_steps", "epsilon", "seed", "awpo_gate", "num_generations", "needs a judge", "steps_per_generation")
    assert all(name in text for name in names)
    assert text.count("; ") >= len(names) - 1


# ---- YAML and flags


def parse(*words):
    return parse_config(AWPOConfig, words, "awpo train", "Train.")


@pytest.fixture
def yaml_file(tmp_path):
    def write(**values):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)

    return write


def test_flags_override_yaml(yaml_file):
    path = yaml_file(max_steps=7, learning_rate=1e-3, env_kwargs={"preset": "quickstart"})
    config, is_dry_run = parse("--config", path, "--max_steps", "9")
    assert (config.max_steps, config.learning_rate, config.env_kwargs) == (9, 1e-3, {"preset": "quickstart"})
    assert config.num_generations == AWPOConfig().num_generations
    assert not is_dry_run and parse("--dry_run")[1]


def test_numbers_may_be_written_as_people_do(yaml_file):
    assert parse("--learning_rate", "1e-4")[0].learning_rate == 1e-4
    assert parse("--config", yaml_file(learning_rate="1e-4"))[0].learning_rate == 1e-4


def test_a_config_survives_yaml(tmp_path):
    config = AWPOConfig(
        max_steps=3, env_kwargs={"limits": {"max_turns": 2}}, report_to=["tensorboard"], output_dir="runs/\u00e9t\u00e9"
    )
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert parse("--config", str(path))[0] == config


def test_an_unknown_setting_is_refused_with_a_hint(yaml_file):
    for words in (["--max_step", "3"], ["--max_step=3"], ["--config", yaml_file(max_step=3)]):
        with pytest.raises(UsageError) as caught:
            parse(*words)
        text = str(caught.value).removeprefix(f"{words[-1]}: ")
        assert text.startswith("unknown setting 'max_step'. Did you mean 'max_steps'?"), text
        assert "\n" not in text


def test_an_abbreviation_is_understood():
    with pytest.raises(UsageError, match="Did you mean 'learning_rate'"):
        parse("--lr", "1e-4")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"env: [1, 2\nx: : 3\n", "line 2"),
        (b"learning_rat: 1\n", "unknown setting 'learning_rat'"),
        (b"learning_rate: fast\n", "Got value: fast"),
        (b"- 1\n", "Unexpected config"),
        (b"a\xff\n", "codec can't decode"),
    ],
)
def test_a_file_that_is_wrong_is_named_and_others_are_not(tmp_path, yaml_file, content, problem):
    broken, sound = tmp_path / "my broken.yaml", yaml_file(max_steps=3)
    broken.write_bytes(content)
    for words in (["--config", str(broken)], ["--config", sound, f"--config={broken}"]):
        with pytest.raises(UsageError) as caught:
            parse(*words)
        assert str(caught.value).startswith(f"{broken}: ") and problem in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError) as caught:
        parse("--config", sound, "--learning_rate", "fast")
    assert "yaml" not in str(caught.value)


@pytest.mark.parametrize("value", ["many", "1.5"])
def test_a_value_of_the_wrong_type_is_one_sentence(value, yaml_file):
    for words in (["--max_steps", value], ["--config", yaml_file(max_steps=value)]):
        with pytest.raises(UsageError) as caught:
            parse(*words)
        text = str(caught.value)
        assert "max_steps" in text and value in text and "\n" not in text and "Traceback" not in text


def test_a_choice_that_does_not_exist_is_one_sentence():
    with pytest.raises(UsageError, match="judge_failure") as caught:
        parse("--judge_failure", "ignore")
    assert "\n" not in str(caught.value)


def test_a_file_that_does_not_exist_is_one_sentence():
    with pytest.raises(UsageError, match=r"missing\.yaml") as caught:
        parse("--config", "missing.yaml")
    assert "\n" not in str(caught.value)


def test_help_documents_every_setting(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(AWPOConfig):
        assert f"--{field.name}" in text
    assert "Clip radius of the probability ratio" in " ".join(text.split())


def test_dry_run_shows_and_checks(capsys):
    assert main(["--dry_run", "--max_steps", "3"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {**dataclasses.asdict(AWPOConfig()), "max_steps": 3}
    with pytest.raises(UsageError, match="max_steps is 0"):
        main(["--dry_run", "--max_steps", "0"])


def test_a_model_within_the_run_s_own_folder_is_refused(tmp_path):
    model = tmp_path / "run" / "checkpoints" / "checkpoint-3"
    model.mkdir(parents=True)
    for place in (model, tmp_path / "run"):
        with pytest.raises(UsageError, match="lies in output_dir, where a run sets older checkpoints aside"):
            AWPOConfig(model=str(place), output_dir=str(tmp_path / "run")).check()
    AWPOConfig(model=str(model), output_dir=str(tmp_path / "other")).check()

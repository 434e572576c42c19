"""Evaluation: scripted policies whose score is known, tries, unscored episodes, and the report as JSON."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from awpo_agent.chat import ChatTokens
from awpo_agent.checkpoint import save_checkpoint
from awpo_agent.cli import main
from awpo_agent.evaluate import EpisodeResult, evaluate_model, evaluate_script, summarise, task_seeds
from awpo_agent.intervals import success_rate
from awpo_agent.rollout import RolloutLimits
from awpo_env.env import ToolUseEnv
from awpo_env.errors import UsageError
from awpo_env.execution import BackendCrash


def result(task, success, kind="one"):
    status = "environment_error" if success is None else "completed"
    return EpisodeResult(f"t/{task}", kind, status, success, None if success is None else float(success))


def test_a_report_by_hand():
    # Three tasks, four tries each: 2, 4 and (with one broken try) 1 of 3.
    tries = [[True, False, True, False], [True] * 4, [False, None, True, False]]
    results = [result(task, s, "ab"[task > 0]) for task, row in enumerate(tries) for s in row]
    report = summarise(results, 4)
    assert report.success.value == pytest.approx((1 / 2 + 1 + 1 / 3) / 3)
    assert {kind: estimate.value for kind, estimate in report.by_kind.items()} == {"a": 0.5, "b": pytest.approx(2 / 3)}
    # The task with the broken try has no four tries to count; of the others pass@2 is 5/6 and 1, pass^2 1/6 and 1.
    assert {k: e.value for k, e in report.pass_at.items()} == {1: 0.75, 2: pytest.approx(11 / 12), 4: 1.0}
    assert {k: e.value for k, e in report.pass_hat.items()} == {1: 0.75, 2: pytest.approx(7 / 12), 4: 0.5}
    assert report.statuses == {"completed": 11, "environment_error": 1}
    assert report.num_unscored == 1


def test_a_report_needs_something_to_score():
    with pytest.raises(UsageError, match="no episode could be scored"):
        summarise([result(0, None)], 1)
    report = summarise([result(0, None), result(0, True)], 2)
    assert (report.success.value, report.pass_at, report.num_unscored) == (1.0, {}, 1)


def test_an_interval_is_that_of_tasks_and_not_of_tries():
    results = [result(task, task < 5) for task in range(10) for _ in range(16)]
    report = summarise(results, 16)
    assert report.success == report.by_kind["one"] == report.pass_at[1]
    assert report.success.high - report.success.low > 0.5
    assert summarise(results[::16], 1).success == success_rate(5, 10)


def test_a_broken_environment_says_why_and_an_unfinished_reference_which():
    def crash(*args):
        raise BackendCrash("the disk is full")

    env = ToolUseEnv("calculator", split="test")
    env.run_call = crash
    results = evaluate_script("oracle", lambda: env, num_tasks=4, num_tries=1, seed=0)
    broken = [one for one in results if one.success is None]
    assert broken and all("the disk is full" in one.problem for one in broken)

    class Unfinished(ToolUseEnv):
        def reset(self, **options):
            observation, info = super().reset(**options)
            turn = self.task.turns[0]
            self.task = replace(self.task, turns=(replace(turn, reference=turn.reference[:-1]),))
            return observation, info

    with pytest.raises(UsageError, match=r"the reference of task 'test/.*' stops before the episode ends"):
        evaluate_script("oracle", lambda: Unfinished("calculator", split="test"), num_tasks=1, num_tries=1, seed=0)


def test_a_broken_environment_of_a_model_says_why(make_model, chat):
    class Broken(ToolUseEnv):
        def step(self, action):
            observation, _, _, _, info = super().step(action)
            return (
                observation,
                0.0,
                False,
                True,
                info | {"status": "environment_error", "outcome": None, "error": "gone"},
            )

    limits = RolloutLimits(320, 6)
    results = evaluate_model(
        make_model(), chat, lambda: Broken("calculator"), num_tasks=2, num_tries=1, seed=0, limits=limits
    )
    assert [(one.success, one.problem) for one in results] == [(None, "gone")] * 2


def play(policy, **numbers):
    settings = {"num_tasks": 12, "num_tries": 1, "seed": 0, **numbers}
    return evaluate_script(policy, lambda: ToolUseEnv("calculator", split="test"), **settings)


def test_the_oracle_solves_everything_and_nothing_solves_nothing():
    oracle = play("oracle", num_tries=2)
    assert all(episode.success and episode.reward == 1.0 and episode.status == "completed" for episode in oracle)
    assert len(oracle) == 24 and [e.task_id for e in oracle[::2]] == [e.task_id for e in oracle[1::2]]
    nothing = play("nothing")
    assert not any(episode.success for episode in nothing)
    assert [episode.task_id for episode in nothing] == [episode.task_id for episode in oracle[::2]]
    assert all(episode.task_id.startswith("test/") for episode in nothing)
    assert play("random") == play("random")


def test_task_seeds_depend_on_the_seed_alone():
    assert task_seeds(0, 5) == task_seeds(0, 9)[:5] != task_seeds(1, 5)


def test_a_model_is_evaluated_on_the_same_tasks(make_model, chat):
    make_env = lambda: ToolUseEnv("calculator", split="test", limits={"max_turns": 1})  # noqa: E731
    numbers = {"num_tasks": 3, "num_tries": 2, "seed": 0, "limits": RolloutLimits(320, 6)}
    ended = []
    results = evaluate_model(make_model(), chat, make_env, **numbers, on_end=lambda: ended.append(1))
    assert len(ended) == len(results) == 6
    assert (
        [r.task_id for r in results[::2]]
        == [r.task_id for r in results[1::2]]
        == [r.task_id for r in play("nothing", num_tasks=3)]
    )
    assert results == evaluate_model(make_model(), chat, make_env, **numbers)


# ---- the command


def test_the_command_writes_json(tmp_path, capsys):
    out = tmp_path / "report.json"
    words = ["--env", "awpo/Calculator-v0", "--policy", "oracle", "--episodes", "5", "--tries", "2"]
    assert main(["eval", *words, "--json", str(out)]) == 0
    text = capsys.readouterr().out
    assert "success rate" in text and "100.0%" in text and "pass^2" in text and "completed 10" in text
    report = json.loads(out.read_text())
    assert report["success"]["value"] == 1.0 and report["pass_hat"]["2"]["value"] == 1.0
    assert report["num_unscored"] == 0 and len(report["episodes"]) == 10
    assert report["episodes"][0].keys() == {"task_id", "kind", "status", "success", "reward", "problem"}


def test_a_benchmark_over_files_is_reported_by_category(tmp_path, capsys):
    rows = [
        {"question": "?", "options": ["a", "b"], "answer": "A", "category": category}
        for category in ("law", "law", "math")
    ]
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(rows))
    words = ["--env", "awpo/MMLUPro-v0", "--env-kwargs", json.dumps({"path": str(path)}), "--episodes", "20"]
    for policy, rate in (("oracle", "100.0%"), ("nothing", "0.0%")):
        assert main(["eval", *words, "--policy", policy]) == 0
        lines = capsys.readouterr().out.splitlines()
        for kind in ("success rate", "law", "math"):
            assert rate in next(line for line in lines if kind in line)


def test_every_task_is_played_once_and_reported_in_markdown(tmp_path, capsys):
    suite = Path(__file__).parents[1] / "env" / "suite_notes"
    tasks = [json.loads(line) for line in (suite / "tasks.jsonl").read_text().splitlines()]
    out, page = tmp_path / "report.json", tmp_path / "report.md"
    words = ["--env", str(suite), "--policy", "oracle", "--every-task", "--tries", "2"]
    assert main(["eval", *words, "--json", str(out), "--markdown", str(page)]) == 0
    capsys.readouterr()
    report = json.loads(out.read_text())
    assert sorted(e["task_id"] for e in report["episodes"]) == sorted(2 * [t["id"] for t in tasks])
    assert "bfcl" not in report
    assert "| success rate | 100.0% |" in page.read_text()
    assert main(["eval", "--env", "awpo/Calculator-v0", "--policy", "oracle", "--every-task"]) == 2
    assert "without end" in capsys.readouterr().err
    assert main(["eval", "--env", "awpo/Calculator-v0", "--policy", "oracle", "--split", "all"]) == 2
    assert "unknown split 'all'" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["", "checkpoints/checkpoint-3"])
def test_the_command_takes_a_checkpoint_or_a_run(tmp_path, make_model, tokenizer, capsys, place):
    run = tmp_path / "run"
    folder = run / place
    model = make_model()

    def write(unfinished):
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)

    save_checkpoint(folder, write, {"step": 3, "stages_begun": 0, "optimizer": "whole"})
    words = ["--env", "awpo/Calculator-v0", "--policy", f"hf:{run}", "--episodes", "2"]
    words += ["--template-options", '{"a": 1}']
    assert main(["eval", *words, "--max-length", "300", "--max-turn-length", "5", "--temperature", "0"]) == 0
    assert "0.0%" in capsys.readouterr().out
    assert ChatTokens(tokenizer).stop_ids  # the folder's tokenizer is the one of the fixture


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--policy", "oracel"], "unknown policy 'oracel'"),
        (["--policy", "oracle", "--episodes", "0"], "--episodes is 0"),
        (["--policy", "oracle", "--seed", "-1"], "--seed is -1; expected 0 or more"),
        (["--policy", "oracle", "--tries", "0"], "--tries is 0"),
        (["--policy", "oracle", "--temperature", "-1"], "--temperature is -1.0"),
        (["--policy", "oracle", "--temperature", "nan"], "--temperature is nan"),
        (["--policy", "oracle", "--template-options", "[1]"], "--template-options is [1]; expected a JSON object"),
        (["--policy", "oracle", "--env-kwargs", "7"], "--env-kwargs is 7; expected a JSON object"),
        (["--policy", "oracle", "--env-kwargs", '{"pth": 1}'], "unexpected keyword argument 'pth'"),
        (["--policy", "hf:./nowhere"], "model folder './nowhere' does not exist"),
        (["--policy", "hf:tests/nowhere"], "model folder 'tests/nowhere' does not exist"),
        (["--policy", "hf:runs/mine/nowhere"], "model folder 'runs/mine/nowhere' does not exist"),
        (["--policy", "oracle", "--preset", "hard"], "hard"),
    ],
)
def test_mistakes_are_one_sentence(words, problem, capsys):
    assert main(["eval", "--env", "awpo/Calculator-v0", *words]) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1


def test_an_unknown_environment_is_one_sentence(capsys):
    assert main(["eval", "--env", "awpo/Calculater-v0", "--policy", "oracle"]) == 2
    error = capsys.readouterr().err
    assert "awpo/Calculater-v0" in error and error.count("\n") == 1

"""Demonstrations: reference solutions that succeed, mistakes that do not, and files that appear whole."""

import json
from dataclasses import replace

import numpy as np
import pytest

from awpo_agent.cli import main
from awpo_env import demonstrations
from awpo_env.demonstrations import demonstrate, solve
from awpo_env.env import ToolUseEnv
from awpo_env.errors import UsageError
from awpo_env.execution import Verbatim
from awpo_env.schema import ToolSet
from awpo_env.suites import BUILT_IN, load_suite
from awpo_env.types import EpisodeStatus


def export(path, *words):
    assert main(["env", "export", "awpo/Calculator-v0", "--out", str(path), "--episodes", "40", *words]) == 0
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_without_mistakes_everything_succeeds(tmp_path, capsys):
    episodes = export(tmp_path / "new" / "demos.jsonl")
    assert len(episodes) == 40 and all(episode["success"] for episode in episodes)
    assert "wrote 40 episodes" in capsys.readouterr().err
    assert episodes[0].keys() == {"task_id", "kind", "success", "messages", "tools"}
    assert {episode["task_id"].split("/")[0] for episode in episodes} == {"train"}
    assert len({episode["task_id"] for episode in episodes}) == 40
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["demos.jsonl"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_task_s_own_solution_is_played_to_success(name):
    env = ToolUseEnv(name)
    for seed in range(5):
        env.reset(seed=seed)
        solution = solve(env)
        assert solution.status is EpisodeStatus.COMPLETED and solution.task.id == env.task.id
        said = [message for message in solution.messages if message["role"] == "assistant"]
        assert len(said) == sum(len(turn.reference) for turn in env.task.turns)


def test_a_solution_that_cannot_be_played_is_none():
    env = ToolUseEnv("calculator", limits={"max_turns": 1})
    env.reset(seed=1)
    assert len(env.task.turns[0].reference) > 1 and solve(env) is None


def test_mistakes_cost_success(tmp_path):
    shares = [
        np.mean([episode["success"] for episode in export(tmp_path / "demos.jsonl", "--mistake-rate", rate)])
        for rate in ("0", "0.3", "1")
    ]
    assert shares[0] == 1.0 > shares[1] > shares[2] and shares[2] < 0.2


def test_equal_seeds_give_equal_files(tmp_path):
    words = ("--mistake-rate", "0.3", "--seed", "5")
    for name in ("a", "b"):
        export(tmp_path / name, *words)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    export(tmp_path / "c", "--mistake-rate", "0.3", "--seed", "6")
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_mistakes_do_not_change_which_tasks_are_drawn(tmp_path):
    plain, spoiled = export(tmp_path / "a"), export(tmp_path / "b", "--mistake-rate", "1")
    assert [episode["task_id"] for episode in plain] == [episode["task_id"] for episode in spoiled]


@pytest.mark.parametrize("suite", BUILT_IN)
def test_every_suite_can_be_demonstrated_badly(suite):
    env, rng = ToolUseEnv(suite), np.random.default_rng(0)
    for seed in range(40):
        env.reset(seed=seed)
        episode = demonstrate(env, rng, 0.7)
        assert json.loads(json.dumps(episode)) == episode
        assert [message["role"] for message in episode["messages"][:2]] == ["system", "user"]


def test_a_refused_mistake_is_corrected_at_once():
    env, rng, num_refused = ToolUseEnv("retail", preset="quickstart"), np.random.default_rng(0), 0
    for seed in range(20):
        env.reset(seed=seed)
        messages = demonstrate(env, rng, 0.7)["messages"]
        reference = [message for turn in env.task.turns for message in turn.reference]
        right = {json.dumps(call.arguments): call.name for message in reference for call in message.calls}
        for number, message in enumerate(messages):
            if message["role"] == "tool" and message["content"].startswith('{"error"'):
                call = messages[number + 1]["tool_calls"][0]["function"]
                assert right[call["arguments"]] == call["name"]
                num_refused += 1
    assert num_refused >= 10


@pytest.mark.parametrize("num_messages", [0, 1])
def test_a_reference_that_stops_too_early_is_named(num_messages):
    env = ToolUseEnv("calculator")
    env.reset(seed=1)
    turn = env.task.turns[0]
    env.task = replace(env.task, turns=(replace(turn, reference=turn.reference[:num_messages]),))
    with pytest.raises(UsageError, match=rf"the reference of task '{env.task.id}' stops before the episode ends"):
        demonstrate(env, np.random.default_rng(0), 0.0)


def test_a_mistake_is_spoilt_whatever_a_tool_answers():
    env = ToolUseEnv("retail", preset="quickstart")
    results = iter([Verbatim("plain"), Verbatim('{"cut": [1, '), Verbatim('{"error": "gone"}'), Verbatim("[]")] * 99)
    env.run_call = lambda *args: (next(results), True)
    for seed in range(8):
        env.reset(seed=seed)
        assert demonstrate(env, np.random.default_rng(seed), 1.0)["success"] is False


def test_an_argument_that_may_be_anything_can_be_mistaken():
    suite = load_suite("calculator")
    declared = json.loads(json.dumps(list(suite.tools.declarations.values())))
    for tool in declared:
        properties = tool["function"]["parameters"]["properties"]
        properties.update(dict.fromkeys(properties, True) | {"note": True})
    env = ToolUseEnv(replace(suite, tools=ToolSet(declared)))
    successes = []
    for seed in range(20):
        env.reset(seed=seed)
        successes.append(demonstrate(env, np.random.default_rng(seed), 1.0)["success"])
    assert not any(successes)


def test_a_failure_leaves_the_older_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "demos.jsonl"
    export(path)
    before, count = path.read_bytes(), iter(range(100))

    def fail_at_ten(env, rng, rate):
        if next(count) == 10:
            raise OSError("No space left on device")
        return demonstrate(env, rng, rate)

    monkeypatch.setattr(demonstrations, "demonstrate", fail_at_ten)
    with pytest.raises(OSError, match="No space"):
        export(path)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["demos.jsonl"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--mistake-rate", "1.5"], "--mistake-rate is 1.5; expected a probability"),
        (["--mistake-rate", "nan"], "--mistake-rate is nan"),
        (["--episodes", "0"], "--episodes is 0; expected at least 1"),
    ],
)
def test_impossible_wishes_are_refused(tmp_path, capsys, words, problem):
    assert main(["env", "export", "awpo/Calculator-v0", "--out", str(tmp_path / "x"), *words]) == 2
    assert problem in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

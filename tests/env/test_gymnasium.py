"""The environments keep Gymnasium's promises: registration, check_env, and vector environments of both kinds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

import awpo_env

NOTES = str(Path(__file__).parent / "suite_notes")
VECTOR = {"sync": {}, "async": {"shared_memory": False}}


def settings_of(env_id: str) -> dict[str, Any]:
    return {"suite": NOTES} if env_id == "awpo/ToolUse-v0" else {}


@pytest.mark.parametrize("env_id", awpo_env.ENV_IDS)
def test_check_env_finds_nothing(env_id: str) -> None:
    env = gymnasium.make(env_id, **settings_of(env_id))
    check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("env_id", awpo_env.ENV_IDS)
@pytest.mark.parametrize("mode", VECTOR)
def test_vector_environments_play_the_episodes_single_ones_play(env_id: str, mode: str) -> None:
    actions = ["<think>hm</think>Let me see.<tool_call>{}</tool_call>", '<tool_call>{"name": "x"}</tool_call>', "Bye."]
    single = []
    for seed in (5, 6):
        env = gymnasium.make(env_id, **settings_of(env_id))
        steps: list[Any] = [env.reset(seed=seed)[0]]
        steps += [env.step(action)[0] for action in actions]
        single.append(json.dumps(steps))
        env.close()
    vector = gymnasium.make_vec(
        env_id, num_envs=2, vectorization_mode=mode, vector_kwargs=VECTOR[mode], **settings_of(env_id)
    )
    batches = [vector.reset(seed=5)[0]]
    batches += [vector.step((action, action))[0] for action in actions]
    for index in range(2):
        steps = [{name: part[index] for name, part in batch.items()} for batch in batches]
        assert json.dumps(steps) == single[index]
    vector.close()


@pytest.mark.parametrize("mode", VECTOR)
def test_vector_environments_report_outcomes_and_sample_actions(mode: str) -> None:
    vector = gymnasium.make_vec(
        "awpo/ToolUse-v0", num_envs=2, vectorization_mode=mode, vector_kwargs=VECTOR[mode], suite=NOTES, tasks=["add"]
    )
    vector.reset(seed=0)
    assert vector.action_space.contains(vector.action_space.sample())
    note = {"name": "add_note", "arguments": {"title": "Milk", "text": "buy two", "priority": 3}}
    vector.step((f"<tool_call>{json.dumps(note)}</tool_call>", "<tool_call>"))
    _, rewards, terminated, _, infos = vector.step(("Done.", "Done."))
    assert (rewards.tolist(), terminated.tolist()) == ([1.0, 0.0], [True, True])
    assert [outcome.success for outcome in infos["outcome"]] == [True, False]
    vector.close()


def test_a_loaded_suite_and_a_spec_survive_make(notes: awpo_env.Suite) -> None:
    env = gymnasium.make("awpo/ToolUse-v0", suite=notes, limits={"max_turns": 1})
    assert env.unwrapped.suite.tasks == notes.tasks
    env.reset(options={"task_id": "ask"})
    assert env.step("<tool_call>")[4]["status"] == "max_turns"
    named = gymnasium.make("awpo/ToolUse-v0", suite=NOTES, split="test")
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(named.spec.to_json()))
    assert json.dumps(again.reset(seed=1)) == json.dumps(named.reset(seed=1))


def test_registering_twice_changes_nothing(recwarn: pytest.WarningsRecorder) -> None:
    before = {env_id: dataclasses.asdict(gymnasium.spec(env_id)) for env_id in awpo_env.ENV_IDS}
    awpo_env.register_envs()
    assert {env_id: dataclasses.asdict(gymnasium.spec(env_id)) for env_id in awpo_env.ENV_IDS} == before

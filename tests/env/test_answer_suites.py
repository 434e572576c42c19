"""Tasks with tools of their own, tools without code behind them, a suite's own outcomes, and turns a request."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from awpo_env.env import ToolUseEnv
from awpo_env.errors import SuiteError, UsageError
from awpo_env.execution import Verbatim
from awpo_env.outcomes import Component
from awpo_env.parsing import HermesParser
from awpo_env.schema import ToolSet
from awpo_env.suites import Suite, make_suite
from awpo_env.types import JSON, AssistantMessage, Task, ToolCall, Transcript, UserTurn

Make = Callable[..., ToolUseEnv]
Call = Callable[..., str]


class Nothing:
    """A backend without tools."""

    def __init__(self, state: JSON) -> None:
        self._state = state

    def snapshot(self) -> JSON:
        return self._state

    def restore(self, snapshot: JSON) -> None:
        self._state = snapshot


def declaration(name: str, parameter: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {parameter: {"type": "integer"}}, "required": [parameter]}
    return {"type": "function", "function": {"name": name, "description": "Does it.", "parameters": parameters}}


def right_call(transcript: Transcript, final: JSON, goal: JSON) -> Component:
    made = [call["function"] for call in transcript.messages[-1].get("tool_calls", ())]
    (wanted,) = transcript.task.reference_calls()
    is_right = made == [{"name": wanted.name, "arguments": json.dumps(wanted.arguments)}]
    return Component(float(is_right and goal is None), 0.0, 1.0)


def answer_task(name: str, parameter: str) -> Task:
    reference = (AssistantMessage(calls=(ToolCall(name, {parameter: 1}),)),)
    return Task(name, "one_call", None, (UserTurn("Do it.", reference),), declarations=(declaration(name, parameter),))


@pytest.fixture(scope="module")
def answers() -> Suite:
    """Two tasks with a tool each, which nobody runs."""
    tasks = [answer_task("dim", "level"), answer_task("heat", "degrees")]
    outcomes = {"success": right_call}
    return make_suite("answers", ToolSet([]), Nothing, policy="", tasks=tasks, runs_calls=False, outcomes=outcomes)


def test_a_task_shows_its_own_tools_and_the_first_message_is_the_answer(make: Make, answers: Suite, call: Call) -> None:
    env = make(answers, task="heat")
    assert [tool["function"]["name"] for tool in env.transcript.tools] == ["heat"]
    assert [message["role"] for message in env.transcript.messages] == ["user"]  # no rules, no system message
    assert "heat" in env.action_space.sample()
    observation, reward, terminated, _, info = env.step(call("heat", degrees=1))
    assert [message["role"] for message in observation["new_messages"]] == ["assistant"]
    assert (reward, terminated, info["status"], info["outcome"].components) == (1.0, True, "completed", {"success": 1})
    env.reset(options={"task_id": "dim"})
    assert "dim" in env.action_space.sample()
    assert env.step(call("heat", degrees=1))[1] == 0.0
    env.reset(options={"task_id": "dim"})
    assert env.step("I cannot.")[1:3] == (0.0, True)


def test_calls_that_nobody_runs_have_ids_of_their_own_and_count(make: Make, answers: Suite, call: Call) -> None:
    heat = answers.tasks["heat"]
    twice = dataclasses.replace(heat, turns=(*heat.turns, UserTurn("Once more.", ()), UserTurn("Again.", ())))
    env = make(dataclasses.replace(answers, tasks={"heat": twice}), task="heat", limits={"max_tool_calls": 3})
    statuses = [env.step(call("heat", degrees=1) * 2)[4]["status"] for _ in range(2)]
    assert statuses == ["running", "max_tool_calls"]
    messages = env.transcript.messages
    assert [one["id"] for message in messages for one in message.get("tool_calls", ())] == [
        f"call_{n}" for n in range(4)
    ]


def test_a_task_without_any_tool_can_be_sampled_for(make: Make, answers: Suite) -> None:
    bare = Task("bare", "bare", None, (UserTurn("Hello.", ()),))
    env = make(dataclasses.replace(answers, tasks={"bare": bare}), task="bare")
    assert "<tool_call>" not in env.action_space.sample()
    assert env.observation_space.sample()["tools"] == []


def test_tasks_with_own_tools_survive_json_and_are_checked(answers: Suite) -> None:
    task = answers.tasks["dim"]
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task
    wrong = dataclasses.replace(task, declarations=(declaration("dimm", "level"),))
    with pytest.raises(SuiteError, match=r"uses a tool 'dim' that is not declared\. Did you mean 'dimm'"):
        make_suite("answers", ToolSet([]), Nothing, policy="", tasks=[wrong])


def test_only_a_suites_own_outcomes_can_be_weighed(make: Make, answers: Suite) -> None:
    with pytest.raises(UsageError, match="unknown outcome 'state'; expected one of \\['success'\\]"):
        make(answers, outcome="state")


def test_a_parser_may_be_an_object_and_a_result_a_text(make: Make, call: Call) -> None:
    class Shouting(HermesParser):
        def parse(self, text: str) -> AssistantMessage:
            return super().parse(text.lower())

    env = make(parser=Shouting(), task="ask")
    env.run_call = lambda *args: (Verbatim('two "words" \ud800'), True)
    observation, *_ = env.step(call("list_notes").upper())
    assert observation["new_messages"][-1]["content"] == 'two "words" \ufffd'


def test_turns_are_limited_for_each_request(make: Make, call: Call) -> None:
    env = make(limits={"max_turns_per_request": 2}, task="clean")  # has two requests
    for text in [call("list_notes"), "It is 1234.", call("list_notes")]:
        assert env.step(text)[-1]["status"] == "running"
    assert env.step(call("list_notes"))[-1]["status"] == "max_turns"
    with pytest.raises(UsageError, match="max_turns_per_request is 0"):
        make(limits={"max_turns_per_request": 0})

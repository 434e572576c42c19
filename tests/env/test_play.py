"""Playing by hand: how lines are read, how tools are shown, and that following the hints solves a task."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

import pytest

from awpo_env.env import ToolUseEnv
from awpo_env.play import Screen, next_reference_step, play, render_step, signature, type_label, watch
from awpo_env.suites import BUILT_IN
from awpo_env.typed_lines import Command, Misread, parse_line, read_value
from awpo_env.types import AssistantMessage, ToolCall

TOOLS = {
    "find": {"properties": {"email": {"type": "string"}}},
    "book": {
        "properties": {
            "seats": {"type": "integer"},
            "price": {"type": "number"},
            "window": {"type": "boolean"},
            "names": {"type": "array", "items": {"type": "string"}},
            "rows": {"type": "array", "items": {"type": "integer"}},
            "note": {"type": ["string", "null"]},
        }
    },
    "stop": {"properties": {}},
}


def call(name: str, **arguments: object) -> AssistantMessage:
    return AssistantMessage(calls=(ToolCall(name, arguments),))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", None),
        ("   ", None),
        ("find email=ana@x.io", call("find", email="ana@x.io")),
        ("find email=007", call("find", email="007")),
        ("find email='ana b=c'", call("find", email="ana b=c")),
        ("find email=", call("find", email="")),
        ('find {"email": "ana@x.io"}', call("find", email="ana@x.io")),
        ("book seats=3 price=2.5 window=True", call("book", seats=3, price=2.5, window=True)),
        ('book names=["a","b"] rows=[1,2]', call("book", names=["a", "b"], rows=[1, 2])),
        ("book names=a,b rows=7", call("book", names=["a", "b"], rows=[7])),
        ("book note=null", call("book", note=None)),
        ("book note=12", call("book", note="12")),
        ("book seats=many", call("book", seats="many")),
        ("book colour=3", call("book", colour=3)),
        ("stop", call("stop")),
        ("fnd email=x", call("fnd", email="x")),
        ("I have booked it.", AssistantMessage(content="I have booked it.")),
        ("I've booked it", AssistantMessage(content="I've booked it")),
        ("Find nothing", AssistantMessage(content="Find nothing")),
        ("/say stop", AssistantMessage(content="stop")),
        ("/tools find", Command("tools", "find")),
        ("/hint", Command("hint", "")),
    ],
)
def test_a_line_is_a_call_a_message_or_a_command(line: str, expected: object) -> None:
    assert parse_line(line, TOOLS) == expected


@pytest.mark.parametrize("line", ["find ana", "find {email: 1}", "find email='ana", 'find {"a": 1} b', "help", "quit"])
def test_a_slip_is_refused_and_not_sent(line: str) -> None:
    with pytest.raises(Misread):
        parse_line(line, TOOLS)


@pytest.mark.parametrize("text", ["__import__('os')", "1+1", "[1,", "{", "NaN", "1e999"])
def test_values_are_never_evaluated(text: str) -> None:
    assert read_value(text, {"type": "integer"}) == text


@pytest.mark.parametrize(
    ("schema", "label"),
    [
        ({"type": "string"}, "string"),
        ({"enum": ["open", "closed"]}, '"open" | "closed"'),
        ({"type": "integer", "minimum": 1, "maximum": 10}, "integer 1..10"),
        ({"type": "integer", "minimum": 1}, "integer 1.."),
        ({"type": "number", "minimum": -1e12, "maximum": 1e12}, "number"),
        ({"type": "array", "items": {"type": "string"}}, "string[]"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, '("a" | "b")[]'),
        ({"type": ["string", "null"]}, "string | null"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "string | integer"),
        ({"type": "object", "properties": {"zip": {"type": "string"}}}, "{zip?: string}"),
        ({}, "any"),
        (True, "any"),
        ({"type": "array", "items": False}, "nothing[]"),
    ],
)
def test_type_labels(schema: dict | bool, label: str) -> None:
    assert type_label(schema) == label


def test_signature_marks_optional_arguments() -> None:
    parameters = {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]}
    assert signature({"name": "find", "parameters": parameters}) == "find(a: string, b?: integer)"


@pytest.mark.parametrize("schema", [True, {"type": "array", "items": True}, {"anyOf": [True]}])
def test_what_a_schema_says_nothing_about_may_be_typed(schema: dict | bool) -> None:
    assert read_value("[1]", schema) == [1]


def test_without_a_reference_there_is_no_hint() -> None:
    env = make("calculator", "train/full/0")
    env.task = dataclasses.replace(env.task, turns=(dataclasses.replace(env.task.turns[0], reference=()),))
    assert "There is no reference solution for this message." in play_lines(env, ["/hint", "/quit"])[1]


def play_lines(env: ToolUseEnv, lines: Iterable[str]) -> tuple[int, str]:
    shown: list[str] = []
    rest = iter(lines)
    status = play(env, lambda: next(rest, None), Screen(shown.append))
    return status, "\n".join(shown)


def make(suite: str, task_id: str) -> ToolUseEnv:
    env = ToolUseEnv(suite, tasks=[task_id])
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("suite", BUILT_IN)
@pytest.mark.parametrize("index", range(12))
def test_following_the_hints_solves_the_task(suite: str, index: int) -> None:
    env = ToolUseEnv(suite)
    env.reset(seed=index)

    def follow_hints() -> Iterable[str]:
        while True:
            step = next_reference_step(env.task, env.transcript.messages)
            yield from render_step(step) if step.calls else ["/hint", f"/say {step.content}"]

    status, shown = play_lines(env, follow_hints())
    assert status == 0, shown
    assert "Solved. Status completed, reward 1 of 0..1" in shown


@pytest.mark.parametrize("suite", BUILT_IN)
def test_the_oracle_shows_its_calls_and_solves(suite: str) -> None:
    env = ToolUseEnv(suite)
    env.reset(seed=5)
    shown: list[str] = []
    assert watch(env, Screen(shown.append)) == 0
    first = env.task.reference_calls()[0]
    assert f"{first.name} {json.dumps(first.arguments, ensure_ascii=False)}" in "\n".join(shown).splitlines()


def test_opening_shows_policy_tools_and_request() -> None:
    env = make("calculator", "train/full/0")
    _, shown = play_lines(env, ["/quit"])
    for part in (env.suite.policy, "add(a: number, b: number)", env.task.turns[0].message, "train/full/0"):
        assert part in shown


def test_a_wrong_call_is_answered_as_a_model_would_be() -> None:
    _, shown = play_lines(make("calculator", "train/full/0"), ["ad a=1 b=2", "add a=x b=2", "/quit"])
    assert '"unknown_tool"' in shown and '"did_you_mean": "add"' in shown
    assert '"invalid_arguments"' in shown


def test_a_slip_costs_no_turn() -> None:
    env = make("calculator", "train/full/0")
    status, shown = play_lines(env, ["add 1 2", "", "/nonsense", "/hnt", "/tools ad", "/tools add", "/help", "/quit"])
    assert status == 0
    assert len(env.transcript.messages) == 2
    assert "? '1' is not name=value" in shown
    assert "Did you mean 'hint'?" in shown and "Did you mean 'add'?" in shown


def test_an_unsolved_task_shows_what_the_reference_does() -> None:
    env = make("calculator", "train/full/0")
    status, shown = play_lines(env, ["I do not know."] * 5)
    assert status == 1
    assert "Not solved." in shown
    for wanted in env.task.reference_calls():
        assert f"  {wanted.name} {json.dumps(wanted.arguments)}" in shown


def test_an_input_that_ends_early_is_a_failure() -> None:
    status, shown = play_lines(make("calculator", "train/full/0"), [])
    assert status == 1
    assert "The input ended before the task train/full/0 did." in shown


def test_colour_is_for_terminals_only() -> None:
    plain: list[str] = []
    coloured: list[str] = []
    Screen(plain.append).show("hello", "user")
    Screen(coloured.append, is_coloured=True).show("hello", "user")
    assert plain == ["hello"]
    assert coloured[0] != "hello" and "hello" in coloured[0]

"""Outcome rewards on transcripts small enough to be worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from awpo_env.errors import UsageError
from awpo_env.outcomes import MALFORMED, OUTCOMES, check_weights, contains_word, score_outcome
from awpo_env.types import AssistantMessage, EpisodeStatus, Fact, Message, Task, ToolCall, Transcript, UserTurn

USER: Message = {"role": "user", "content": "?"}


def says(content: str) -> Message:
    return {"role": "assistant", "content": content}


def asks(*calls: ToolCall, content: str = "") -> Message:
    functions = [{"name": call.name, "arguments": json.dumps(call.arguments)} for call in calls]
    return {"role": "assistant", "content": content, "tool_calls": [{"function": function} for function in functions]}


def garbles() -> Message:
    return {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": MALFORMED, "arguments": "{"}}]}


def returns(result: Any) -> Message:
    return {"role": "tool", "content": json.dumps(result)}


def transcript(
    *messages: Message,
    facts: tuple[tuple[Fact, ...], ...] = ((),),
    reference: tuple[ToolCall, ...] = (),
    status: EpisodeStatus = EpisodeStatus.COMPLETED,
) -> Transcript:
    solution = (AssistantMessage(calls=reference), AssistantMessage(content="done"))
    turns = tuple(UserTurn("?", solution if index == 0 else (), of_turn) for index, of_turn in enumerate(facts))
    return Transcript(Task("t", "k", {}, turns), tuple(messages), (), status)


def answer(*messages: Message, facts: tuple[tuple[Fact, ...], ...]) -> float:
    return OUTCOMES["answer"](transcript(*messages, facts=facts), {}, {}).value


@pytest.mark.parametrize(
    ("text", "word", "is_there"),
    [
        ("The code is 4711.", "4711", True),
        ("4711", "4711", True),
        ("Code:4711!", "4711", True),
        ("14711", "4711", False),
        ("47115", "4711", False),
        ("4711.5", "4711", False),
        ("4,711", "711", False),
        ("4711,50", "4711", False),
        ("-4711", "4711", False),
        ("4711-a", "4711", False),
        ("x.4711", "4711", False),
        ("10:30", "10", False),
        ("10:30", "30", False),
        ("at 10:30, or", "10:30", True),
        ("ONE blue hat", "Blue", True),
        ("blues and blue", "blue", True),
        ("$12.50", "12.50", True),
        ("12.505", "12.50", False),
        ("Stra\u00dfe", "strasse", True),
        ("a.c", "abc", False),
        ("", "x", False),
    ],
)
def test_words_are_whole_words(text: str, word: str, is_there: bool) -> None:
    assert contains_word(text, word) is is_there


BLUE = ((Fact("blue", decoys=("red",)),),)


@pytest.mark.parametrize(
    ("messages", "value"),
    [
        ((USER, returns(["blue"]), says("It is blue.")), 1.0),
        ((USER, says("It is blue.")), 0.0),  # a guess
        ((USER, says("It is blue."), returns(["blue"])), 0.0),  # found out too late
        ((USER, returns({"error": {"message": "no colour blue"}}), says("It is blue.")), 0.0),  # its own guess repeated
        ((USER, returns({"error": "no colour blue"}), says("It is blue.")), 0.0),
        ((USER, returns({"error": None, "colour": "blue"}), says("It is blue.")), 1.0),  # says that there is none
        ((USER, returns(["blue", "red"]), says("It is blue or red.")), 0.0),  # names every candidate
        ((USER, returns(["blue", "red"]), says("It is blue, not Red.")), 0.0),
        ((USER, returns(["blue"]), asks(ToolCall("f"), content="It is blue."), says("Done.")), 0.0),
        ((USER, returns(["blue"]), says("It is bluegreen.")), 0.0),
        ((returns(["blue"]), says("It is blue."), USER), 0.0),  # before the question
        ((USER, returns(["blue"]), says("Hm."), USER, says("It is blue.")), 1.0),  # late, but told
    ],
)
def test_a_fact_counts_when_it_is_told_grounded_and_alone(messages: tuple[Message, ...], value: float) -> None:
    assert answer(*messages, facts=BLUE) == value


def test_facts_of_a_later_turn_cannot_be_told_before_it() -> None:
    facts = ((Fact("4711"),), (Fact("blue"),))
    opening = (USER, returns(["blue", 4711]))
    assert answer(*opening, says("4711 and blue"), USER, says("?"), facts=facts) == 0.5
    assert answer(*opening, says("4711"), USER, says("blue"), facts=facts) == 1.0
    assert answer(*opening, says("?"), USER, says("4711 and blue"), facts=facts) == 1.0


def test_nothing_to_tell_is_told() -> None:
    assert answer(USER, facts=((),)) == 1.0


def test_state_is_equality_with_the_goal() -> None:
    for final, value in (({"a": [1]}, 1.0), ({"a": [1], "b": 0}, 0.0), ({}, 0.0)):
        component = OUTCOMES["state"](transcript(USER), final, {"a": [1]})
        assert (component.value, component.low, component.high) == (value, 0.0, 1.0)


@pytest.mark.parametrize(
    ("final", "said", "status", "value"),
    [
        (1, "blue", EpisodeStatus.COMPLETED, 1.0),
        (0, "blue", EpisodeStatus.COMPLETED, 0.0),
        (1, "red", EpisodeStatus.COMPLETED, 0.0),
        (1, "blue", EpisodeStatus.MAX_TURNS, 0.0),
    ],
)
def test_success_needs_state_and_answer_and_an_end(final: int, said: str, status: EpisodeStatus, value: float) -> None:
    episode = transcript(USER, returns(["blue"]), says(said), facts=BLUE, status=status)
    assert OUTCOMES["success"](episode, final, 1).value == value


FLAG, ONE = ToolCall("f", {"x": True}), ToolCall("f", {"x": 1})
F12, G3, F9 = ToolCall("f", {"x": 1, "y": 2}), ToolCall("g", {"z": 3}), ToolCall("f", {"x": 9})


@pytest.mark.parametrize(
    ("messages", "reference", "value"),
    [
        # Attainable: names 1, then (1 + number of arguments) for each reference call.
        ((asks(F12, G3),), (F12, G3), 1 + 3),
        ((asks(G3, F12),), (F12, G3), 1 + 3),
        ((says("no"),), (F12, G3), 1 - 3),
        # names 1/2, f: 1 + 2; of 6
        ((asks(F12),), (F12, G3), 1 + 6 * (0.5 + 3) / 6 - 3),
        # names 1, f: 1/2 of the parameters, no value; of 4
        ((asks(F9),), (F12,), 1 + 6 * (1 + 0.5) / 4 - 3),
        # one call too many: names 1/2, f: 1 + 2; of 4
        ((asks(F9, F12),), (F12,), 1 + 6 * (0.5 + 3) / 4 - 3),
        # each reference call has a call of its own: names 1, 3, then F9 for F12 again 1/2; of 7
        ((asks(F12, F9),), (F12, F12), 1 + 6 * (1 + 3 + 0.5) / 7 - 3),
        # a call that shares no parameter with the first wanted one is kept for the second: names 1/2, then 2; of 5
        ((asks(ToolCall("f", {"y": 2})),), (ToolCall("f", {"x": 1}), ToolCall("f", {"y": 2})), 1 + 6 * 2.5 / 5 - 3),
        # True is not 1, nor is it taken for it
        ((asks(FLAG, ONE),), (ONE, FLAG), 1 + 3),
        ((asks(ToolCall("f", {"x": True, "y": 2})),), (F12,), 1 + 6 * (1 + 1 + 1) / 4 - 3),
        # no arguments at all match as well as they can
        ((asks(ToolCall("h")),), (ToolCall("h"),), 1 + 3),
        # one of two messages is unreadable
        ((garbles(), asks(F12)), (F12,), 0.5 + 3),
        ((garbles(),), (F12,), 0 - 3),
    ],
)
def test_toolrl_values(messages: tuple[Message, ...], reference: tuple[ToolCall, ...], value: float) -> None:
    component = OUTCOMES["calls"](transcript(USER, *messages, reference=reference), {}, {})
    assert component.value == pytest.approx(value)
    assert (component.low, component.high) == (-3.0, 4.0)


def test_without_reference_calls_only_the_format_counts() -> None:
    for messages, value in (
        ((says("no"),), 1.0),
        ((garbles(), says("no")), 0.5),
        ((garbles(),), 0.0),
        ((asks(F9),), 1.0),
    ):
        component = OUTCOMES["calls"](transcript(USER, *messages), {}, {})
        assert (component.value, component.low, component.high) == (value, 0.0, 1.0)


def test_weights_add_values_and_ranges() -> None:
    episode = transcript(USER, asks(F12), says("done"), reference=(F12,))
    outcome = score_outcome(episode, 1, 2, {"calls": 0.5, "state": 2.0})
    assert (outcome.value, outcome.low, outcome.high) == (0.5 * 4 + 2 * 0, 0.5 * -3, 0.5 * 4 + 2)
    assert outcome.success is False
    assert outcome.components == {"calls": 4.0, "state": 0.0, "success": 0.0, "answer": 1.0}


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ({}, "no outcome is named"),
        ({"state": 0}, "positive"),
        ({"state": float("nan")}, "positive"),
        ({"sucess": 1}, "'success'"),
    ],
)
def test_impossible_weights_are_refused(weights: dict[str, float], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        check_weights(weights)

"""Outcome rewards: pure functions of task, transcript and final state, each with the range this task allows."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from awpo_env.errors import UsageError, did_you_mean
from awpo_env.schema import says_error
from awpo_env.types import JSON, EpisodeStatus, Fact, Message, Outcome, ToolCall, Transcript


@dataclass(frozen=True, slots=True)
class Component:
    """One named part of an outcome: its value and what this task allows."""

    value: float
    low: float
    high: float


_WORD_START, _WORD_END = re.compile(r"(?<![\w.-])(?<!\d[,:])"), re.compile(r"(?![\w-]|[.,:]\d)")

OutcomeFunction = Callable[[Transcript, JSON, JSON], Component]
"""(transcript, final state, goal state) -> component."""


def state(transcript: Transcript, final: JSON, goal: JSON) -> Component:
    """1 when the final state equals the state of the reference solution, nothing else changed; else 0. Source: ours."""
    return Component(float(final == goal), 0.0, 1.0)


def answer(transcript: Transcript, final: JSON, goal: JSON) -> Component:
    """The share of facts the user was told, in [0, 1]; 1 when there is nothing to tell. Source: ours.

    A fact counts when some message of its user turn or a later one holds it as a whole word, none of its decoys, and a
    tool had returned it before (an error that repeats the model's own guess returns nothing). Only messages without
    calls count: they end a turn, so there is one answer a turn and candidates cannot be tried one by one.
    """
    facts = [(index, fact) for index, turn in enumerate(transcript.task.turns) for fact in turn.facts]
    if not facts:
        return Component(1.0, 0.0, 1.0)
    told = sum(_is_told(transcript.messages, turn, fact) for turn, fact in facts)
    return Component(told / len(facts), 0.0, 1.0)


def success(transcript: Transcript, final: JSON, goal: JSON) -> Component:
    """1 when the task is over, `state` is 1 and `answer` is 1; else 0. Source: ours."""
    solved = (
        transcript.status is EpisodeStatus.COMPLETED
        and state(transcript, final, goal).value == 1.0
        and answer(transcript, final, goal).value == 1.0
    )
    return Component(float(solved), 0.0, 1.0)


def calls(transcript: Transcript, final: JSON, goal: JSON) -> Component:
    """ToolRL's graded match: format in [0, 1] plus correctness in [-3, 3]. Source: ToolRL (arXiv 2504.13958).

    Format is the share of messages without an unreadable call, correctness `call_match` with the reference calls.
    Without reference calls correctness is 0 for everyone, and the attainable range is [0, 1].
    """
    made, malformed, messages = made_calls(transcript.messages)
    form = 1.0 - malformed / messages if messages else 0.0
    wanted = transcript.task.reference_calls()
    if not wanted:
        return Component(form, 0.0, 1.0)
    return Component(form + 6.0 * call_match(wanted, made) - 3.0, -3.0, 4.0)


def call_match(wanted: Sequence[ToolCall], made: Sequence[ToolCall]) -> float:
    """Return how well calls match those that were wanted, in [0, 1]; 1 when they are the same, in any order.

    Jaccard of the tool-name multisets, then for every wanted call the best unused call of that name by Jaccard of
    parameter names plus the number of equal values; the sum over what is attainable. A call that has nothing in common
    with the wanted one stays unused. Source: ToolRL (arXiv 2504.13958); that True is not 1 is ours.

    Args:
        wanted: At least one call.
        made: Any calls.
    """
    names_wanted, names_made = Counter(call.name for call in wanted), Counter(call.name for call in made)
    points = (names_wanted & names_made).total() / (names_wanted | names_made).total()
    unused = list(made)
    for call in wanted:
        likeness = [_likeness(call, other) if other.name == call.name else 0.0 for other in unused]
        if likeness and (best := max(likeness)) > 0:
            points += best
            del unused[likeness.index(best)]
    return points / (1 + sum(1 + len(call.arguments) for call in wanted))


OUTCOMES: Mapping[str, OutcomeFunction] = {"success": success, "state": state, "answer": answer, "calls": calls}
"""Outcome functions by the name a weight is given for."""


_ALWAYS_SHOWN = ("success", "state", "answer")


def check_weights(weights: Mapping[str, float], outcomes: Mapping[str, OutcomeFunction] = OUTCOMES) -> None:
    """Raise UsageError unless `weights` names known outcomes with positive weights."""
    for name, weight in weights.items():
        if name not in outcomes:
            raise UsageError(
                f"unknown outcome {name!r}; expected one of {sorted(outcomes)}.{did_you_mean(name, outcomes)}"
            )
        if not weight > 0:
            raise UsageError(f"outcome {name!r} has weight {weight!r}; expected a positive number")
    if not weights:
        raise UsageError(f"no outcome is named; expected weights for some of {sorted(outcomes)}")


def score_outcome(
    transcript: Transcript,
    final: JSON,
    goal: JSON,
    weights: Mapping[str, float],
    outcomes: Mapping[str, OutcomeFunction] = OUTCOMES,
) -> Outcome:
    """Return the weighted sum of the named outcomes, with its attainable range on this task.

    Args:
        transcript: The finished episode.
        final: The backend's final snapshot.
        goal: The snapshot the reference solution reaches.
        weights: Outcome names and weights.
        outcomes: The suite's outcome functions by name, with ``success`` among them.
    """
    parts = {name: outcomes[name](transcript, final, goal) for name in weights}
    shown = {name: part.value for name, part in parts.items()}
    for name in _ALWAYS_SHOWN:
        if name not in shown and name in outcomes:
            shown[name] = outcomes[name](transcript, final, goal).value
    return Outcome(
        value=sum(weight * parts[name].value for name, weight in weights.items()),
        low=sum(weight * parts[name].low for name, weight in weights.items()),
        high=sum(weight * parts[name].high for name, weight in weights.items()),
        success=shown["success"] == 1.0,
        components=shown,
    )


def _is_told(messages: tuple[Message, ...], turn: int, fact: Fact) -> bool:
    user_messages, is_grounded = 0, False
    for message in messages:
        if message["role"] == "user":
            user_messages += 1
        elif message["role"] == "tool":
            is_result = not says_error(message["content"])
            is_grounded = is_grounded or (is_result and contains_word(message["content"], fact.value))
        elif is_grounded and user_messages > turn and "tool_calls" not in message and message["role"] == "assistant":
            told = contains_word(message["content"], fact.value)
            if told and not any(contains_word(message["content"], decoy) for decoy in fact.decoys):
                return True
    return False


def contains_word(text: str, word: str) -> bool:
    """Whether `word` stands in `text` as a whole word or number, whatever the case (``12`` is not in ``12.5``).

    >>> contains_word("It costs 1,250.00.", "250.00"), contains_word("It costs 1,250.00.", "1,250.00")
    (False, True)
    """
    text, word = text.casefold(), word.casefold()
    start = text.find(word)
    while start >= 0:
        if _WORD_START.match(text, start) and _WORD_END.match(text, start + len(word)):
            return True
        start = text.find(word, start + 1)
    return False


def made_calls(messages: tuple[Message, ...]) -> tuple[list[ToolCall], int, int]:
    """Return the calls of a conversation, the number of messages with an unreadable one, and of all the assistant's."""
    made, malformed, assistant_messages = [], 0, 0
    for message in messages:
        if message["role"] != "assistant":
            continue
        assistant_messages += 1
        calls = message.get("tool_calls", ())
        malformed += any(call["function"]["name"] == MALFORMED for call in calls)
        made += [
            ToolCall(call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in calls
            if call["function"]["name"] != MALFORMED
        ]
    return made, malformed, assistant_messages


MALFORMED = "malformed_call"
"""The name under which a call that could not be read stands in a message."""


def _likeness(wanted: ToolCall, made: ToolCall) -> float:
    keys_wanted, keys_made = set(wanted.arguments), set(made.arguments)
    union = keys_wanted | keys_made
    jaccard = len(keys_wanted & keys_made) / len(union) if union else 1.0
    return jaccard + sum(_equal(made.arguments[key], wanted.arguments[key]) for key in keys_wanted & keys_made)


def _equal(one: JSON, other: JSON) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)  # in Python, True == 1

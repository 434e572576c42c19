"""What a rubric reads: a transcript as steps of thought and action, and text as the terms that carry meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from awpo_env.outcomes import MALFORMED
from awpo_env.types import JSON, Message, Transcript

_LONGEST_TEXT = 20_000  # characters read of one message; a megabyte of tool output must not stall training
_MOST_MESSAGES = 400

_TOKEN = re.compile(r"\w+(?:[.@:+-]\w+)*")
_WORD = re.compile(r"[^\W\d_]{3,}")
_STEM = 5  # "cancelled" and "cancel", "refunds" and "refunded" are one term
_EMPTY_WORDS = """
the and for are was were has have had not but you your yours his her its our their this that these those with from into
onto over they them who what which when where why how will would can could should shall may must been being please there
here now then than all any some too also just very let yes sorry thanks thank hello
"""
_IS_EMPTY = frozenset(_EMPTY_WORDS.split()).__contains__


@dataclass(frozen=True, slots=True)
class Text:
    """A text as three sets.

    Attributes:
        values: What can be looked up: ids, emails, numbers, dates, times; lower case, ``3.0`` as ``3``.
        tokens: Every word as written, lower case; tool and parameter names are found here.
        stems: Stems of the words that mean something.
    """

    values: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()
    stems: frozenset[str] = frozenset()

    @property
    def terms(self) -> frozenset[str]:
        """Values and stems together."""
        return self.values | self.stems


def read_text(text: str) -> Text:
    """Take a text apart; only its first 20000 characters are read."""
    text = text[:_LONGEST_TEXT].lower()
    tokens = _TOKEN.findall(text)
    return Text(
        values=frozenset(_number(token) for token in tokens if "@" in token or any(map(str.isdigit, token))),
        tokens=frozenset(tokens),
        stems=frozenset(word[:_STEM] for word in _WORD.findall(text) if not _IS_EMPTY(word)),
    )


def _number(token: str) -> str:
    """Drop the zeros after the point of a number, so that 3, 3.0 and 3.00 are the same value."""
    whole, point, decimals = token.partition(".")
    if point and whole.isdigit() and decimals.isdigit():
        return f"{whole}.{decimals}".rstrip("0").rstrip(".")
    return token


def leaves(value: JSON) -> Iterator[Text]:
    """Yield the texts and numbers inside a JSON value; true, false and null say nothing that could be quoted."""
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield read_text(str(value))


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it was made, and what came back.

    Attributes:
        name: The tool asked for.
        arguments: Its arguments; None when the call was unreadable.
        result: What the tool answered.
        is_error: Whether that was an error object.
    """

    name: str
    arguments: dict[str, JSON] | None
    result: Text
    is_error: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One assistant message.

    Attributes:
        turn: Which user message it serves, counted from 0.
        reasoning: The private reasoning.
        num_words: Length of the reasoning in words.
        content: What the user reads.
        calls: Its calls, in order.
        known: Values that stood anywhere in the conversation before this message.
    """

    turn: int
    reasoning: Text
    num_words: int
    content: Text
    calls: tuple[Call, ...]
    known: frozenset[str]


@dataclass(frozen=True, slots=True)
class Episode:
    """A transcript as a rubric reads it.

    Attributes:
        steps: The assistant's messages.
        requests: The user's messages.
        tools: Names of the tools on show, lower case.
    """

    steps: tuple[Step, ...]
    requests: tuple[Text, ...]
    tools: frozenset[str]


def read_episode(transcript: Transcript) -> Episode:
    """Read a transcript, whatever state it is in."""
    messages = transcript.messages[:_MOST_MESSAGES]
    results = {message["tool_call_id"]: str(message["content"]) for message in messages if message["role"] == "tool"}
    declared = read_text(json.dumps(transcript.tools))
    known = set(_with_parts(declared.values))
    steps: list[Step] = []
    requests: list[Text] = []
    for message in messages:
        if message["role"] == "assistant":
            steps.append(_read_step(message, results, max(0, len(requests) - 1), frozenset(known)))
            continue
        text = read_text(str(message["content"]))
        known |= _with_parts(text.values)
        if message["role"] == "user":
            requests.append(text)
    names = frozenset(tool["function"]["name"].lower() for tool in transcript.tools)
    return Episode(tuple(steps), tuple(requests), names)


def _read_step(message: Message, results: dict[str, str], turn: int, known: frozenset[str]) -> Step:
    reasoning = str(message.get("reasoning_content") or "")
    return Step(
        turn=turn,
        reasoning=read_text(reasoning),
        num_words=reasoning.count(" ") + 1 if reasoning else 0,
        content=read_text(str(message["content"] or "")),
        calls=tuple(_read_call(call, results) for call in message.get("tool_calls", ())),
        known=known,
    )


def _read_call(call: dict[str, JSON], results: dict[str, str]) -> Call:
    name, arguments = call["function"]["name"], None
    if name != MALFORMED:
        arguments = json.loads(call["function"]["arguments"])
    result = results.get(call["id"], "")
    return Call(name, arguments, _read_result(result), result.startswith('{"error"'))


def _read_result(result: str) -> Text:
    """Only what a result says, not the names of its fields."""
    if len(result) > _LONGEST_TEXT:
        return read_text(result)
    try:
        return _union(leaves(json.loads(result)))
    except ValueError:
        return read_text(result)


def _union(texts: Iterable[Text]) -> Text:
    texts = tuple(texts)
    return Text(
        frozenset().union(*(text.values for text in texts)),
        frozenset().union(*(text.tokens for text in texts)),
        frozenset().union(*(text.stems for text in texts)),
    )


def _with_parts(values: frozenset[str]) -> set[str]:
    """Also the parts of a compound: who read 2025-06-14 may speak of 14, who read 10:00-11:00 of 10:00."""
    parts = {part for value in values if "-" in value or ":" in value for part in re.split("[-:]", value)}
    return parts.union(values, (part for value in values if "-" in value for part in value.split("-")))

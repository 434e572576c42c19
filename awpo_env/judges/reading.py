"""What a rubric reads: a transcript as steps of thought and action, and text as the terms that carry meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from awpo_env.outcomes import MALFORMED
from awpo_env.schema import says_error
from awpo_env.types import JSON, Message, Transcript

_LONGEST_TEXT = 20_000  # characters read of one message; a megabyte of tool output must not stall training
_MOST_MESSAGES = 400

_TOKEN = re.compile(r"\w+(?:[.@:+-]\w+)*")
_DECODER = json.JSONDecoder()
_JSON_OBJECT = re.compile(r"\{[^{}]*\}")
_MARK_OF_VALUE = re.compile(r"[\d@]")
_SHORTEST = 3  # letters of a word that can mean something
_STEM = 5  # "cancelled" and "cancel", "refunds" and "refunded" are one term
_WITHOUT_MEANING = (
    "the and for are was were has have had not but you your yours his her its our their this that these those with "
    "from into onto over they them who what which when where why how will would can could should shall may must "
    "been being please there here now then than all any some too also just very let yes sorry thanks thank hello "
    "reasoning judge score scores marks grade verdict"  # about being judged, so never about the work
)
_EMPTY = frozenset(_WITHOUT_MEANING.split())


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

    @property
    def names(self) -> frozenset[str]:
        """Tokens that are names by their form: ``find_customer``, ``not_pending``."""
        return frozenset(token for token in self.tokens if "_" in token)


def read_text(text: str) -> Text:
    """Take a text apart; only its first 20000 characters are read."""
    return _read(text[:_LONGEST_TEXT])


@lru_cache(maxsize=1024)  # the episodes of a group share their task, and most of what the tools answer
def _read(text: str) -> Text:
    text = text.lower()
    tokens = frozenset(_TOKEN.findall(text))
    return Text(
        values=frozenset(_number(token) for token in tokens if _MARK_OF_VALUE.search(token)),
        tokens=tokens,
        # Neither find_customer nor ana@post.io is a sentence about customers or post, so only plain words count.
        stems=frozenset(token[:_STEM] for token in tokens - _EMPTY if token.isalpha() and len(token) >= _SHORTEST),
    )


def _number(token: str) -> str:
    """Drop the zeros after the point of a number, so that 3, 3.0 and 3.00 are the same value."""
    whole, point, decimals = token.partition(".")
    if point and whole.isdigit() and decimals.isdigit():
        return f"{whole}.{decimals}".rstrip("0").rstrip(".")
    return token


def read_names(*names: str) -> Text:
    """Take names of tools and parameters apart: ``customer_id`` speaks of a customer."""
    return read_text(" ".join(names).replace("_", " "))


def leaves(value: JSON) -> Iterator[Text]:
    """Yield the texts and numbers inside a JSON value; true, false and null say nothing that could be quoted."""
    return map(read_text, _leaves(value))


def _leaves(value: JSON) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


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
        declarations: Their declarations, unread: most episodes never need them.
    """

    steps: tuple[Step, ...]
    requests: tuple[Text, ...]
    tools: frozenset[str]
    declarations: tuple[dict[str, JSON], ...]

    def declared(self) -> frozenset[str]:
        """Values that stand in the declarations, as limits, patterns, enums or examples."""
        return read_text("\n".join(_leaves(list(self.declarations)))).values


def read_episode(transcript: Transcript) -> Episode:
    """Read a transcript, whatever state it is in."""
    messages = transcript.messages[:_MOST_MESSAGES]
    results = {message["tool_call_id"]: str(message["content"]) for message in messages if message["role"] == "tool"}
    known: set[str] = set()
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
    return Episode(tuple(steps), tuple(requests), names, transcript.tools)


def _read_step(message: Message, results: dict[str, str], turn: int, known: frozenset[str]) -> Step:
    reasoning = str(message.get("reasoning_content") or "")[:_LONGEST_TEXT]
    return Step(
        turn=turn,
        # A thought is prose; an object in it is a copied call or a verdict made up for the judge.
        reasoning=read_text(_JSON_OBJECT.sub(" ", reasoning)),
        num_words=len(reasoning.split()),
        content=read_text(str(message["content"] or "")),
        calls=tuple(_read_call(call, results) for call in message.get("tool_calls", ())),
        known=known,
    )


def _read_call(call: dict[str, JSON], results: dict[str, str]) -> Call:
    name, arguments = call["function"]["name"], None
    if name != MALFORMED:
        arguments = json.loads(call["function"]["arguments"])
    result = results.get(call["id"], "")
    return Call(name, arguments, _read_result(result), says_error(result))


def _read_result(result: str) -> Text:
    """Only what a result says: not the names of its fields, and nothing that somebody wrote behind it."""
    if len(result) > _LONGEST_TEXT:
        return read_text(result)
    try:
        return read_text("\n".join(_leaves(_DECODER.raw_decode(result)[0])))
    except (ValueError, RecursionError):  # another tool server may answer in plain text
        return read_text(result)


def _with_parts(values: frozenset[str]) -> set[str]:
    """Also the parts of a compound: who read 2025-06-14 may speak of 14, who read 10:00-11:00 of 10:00."""
    parts = {part for value in values if "-" in value or ":" in value for part in re.split("[-:]", value)}
    return parts.union(values, (part for value in values if "-" in value for part in value.split("-")))

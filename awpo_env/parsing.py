"""Parsers of assistant text: any string becomes reasoning, content and calls; none ever raises."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Protocol

from awpo_env.errors import UsageError, did_you_mean
from awpo_env.types import JSON, AssistantMessage, MalformedCall, ToolCall

_DEEPEST_ARGUMENTS = 32  # levels of nesting; no real tool needs more, and recursion has to end somewhere
_LONGEST_CALL = 100_000  # characters; bounds what validators, backends and error messages are ever given


def encodable(text: str) -> str:
    """Return `text` with every lone surrogate replaced by U+FFFD, so that it can be stored as UTF-8.

    >>> encodable("a\\ud800b") == "a\\ufffdb"
    True
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # Through UTF-16, two halves that belong together become their character; only lone ones are lost.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class Parser(Protocol):
    """One layout of assistant text, in both directions."""

    def parse(self, text: str) -> AssistantMessage:
        """Take any text apart; what was meant as a call and is none becomes a `MalformedCall`."""
        ...

    def format(self, message: AssistantMessage) -> str:
        """Write a message the way a model of this layout writes it; `parse` gives it back."""
        ...


_THINK, _THINK_END = "<think>", "</think>"
_CALL, _CALL_END = "<tool_call>", "</tool_call>"


class HermesParser:
    """The Hermes / Qwen layout: ``<think>..</think>content<tool_call>{"name":..., "arguments":...}</tool_call>``."""

    def parse(self, text: str) -> AssistantMessage:
        """See `Parser.parse`. Reasoning that is never closed swallows the rest, calls included."""
        reasoning, text = _split_reasoning(text)
        content: list[str] = []
        calls: list[ToolCall | MalformedCall] = []
        position = 0
        while (start := text.find(_CALL, position)) >= 0:
            content.append(text[position:start])
            start += len(_CALL)
            end = text.find(_CALL_END, start)
            if end < 0:
                calls.append(MalformedCall(text[start:], f"{_CALL} is never closed"))
                position = len(text)
            else:
                calls.append(_read_call(text[start:end]))
                position = end + len(_CALL_END)
        content.append(text[position:])
        return AssistantMessage(reasoning.strip(), "".join(content).strip(), tuple(calls))

    def format(self, message: AssistantMessage) -> str:
        """See `Parser.format`; the arguments keep their order. Tags inside a call are escaped."""
        parts = [f"{_THINK}{message.reasoning}{_THINK_END}"] if message.reasoning else []
        parts.append(message.content)
        for call in message.calls:
            if isinstance(call, MalformedCall):
                body = call.text
            else:
                body = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
                if any(tag in body for tag in (_THINK, _THINK_END, _CALL, _CALL_END)):
                    body = body.replace("<", "\\u003c")  # in JSON "<" stands only inside strings
            parts.append(f"{_CALL}{body}{_CALL_END}")
        return "".join(parts)


PARSERS: Mapping[str, Parser] = {"hermes": HermesParser()}
"""Parsers by the name an environment is given."""


def get_parser(name: str) -> Parser:
    """Return the parser called `name`.

    Raises:
        UsageError: There is none.
    """
    if name not in PARSERS:
        raise UsageError(f"unknown parser {name!r}; expected one of {sorted(PARSERS)}.{did_you_mean(name, PARSERS)}")
    return PARSERS[name]


def _split_reasoning(text: str) -> tuple[str, str]:
    start, call = text.find(_THINK), text.find(_CALL)
    if start >= 0 and not 0 <= call < start:
        reasoning, _, rest = text[start + len(_THINK) :].partition(_THINK_END)
        return reasoning, text[:start] + rest
    # Some templates open <think> in the prompt, so that the sampled text holds only its end.
    reasoning, closed, rest = text.partition(_THINK_END)
    return (reasoning, rest) if closed and start < 0 else ("", text)


def _read_call(body: str) -> ToolCall | MalformedCall:
    if len(body) > _LONGEST_CALL:
        return MalformedCall(body, f"a call of {len(body)} characters; at most {_LONGEST_CALL} are read")
    try:
        value = loads_strict(body)
    except ValueError as error:
        return MalformedCall(body, str(error))
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return MalformedCall(body, 'a call is {"name": "...", "arguments": {...}}')
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict):
        return MalformedCall(body, '"arguments" must be an object')
    if unknown := [key for key in value if key not in ("name", "arguments")]:
        return MalformedCall(body, f"unexpected key {unknown[0][:64]!r} beside name and arguments")
    return ToolCall(value["name"], arguments)


def loads_strict(text: str) -> JSON:
    """Parse JSON as the standard has it: no NaN, no Infinity, no duplicate keys, no lone surrogates, no deep nesting.

    Raises:
        ValueError: The text is not such JSON; the message is one short clause for the model.
    """
    try:
        value = json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique, parse_int=_bounded_int
        )
        text.encode("utf-8")
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("lone surrogate in text") from None
    _check_nesting(value)
    if "\\u" in text and _has_surrogate(value):
        raise ValueError("lone surrogate in text")
    return value


def _no_constant(name: str) -> JSON:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("number out of range")
    return value


def _bounded_int(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError("number out of range")
    return int(digits)


def _unique(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("duplicate key")
    return value


def _check_nesting(value: JSON) -> None:
    level = [value]
    for _ in range(_DEEPEST_ARGUMENTS):
        level = [
            item
            for container in level
            if isinstance(container, dict | list)
            for item in (container.values() if isinstance(container, dict) else container)
        ]
        if not level:
            return
    raise ValueError("nested too deeply")


def _has_surrogate(value: JSON) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False

"""Tool calls as Python writes them, read by a small reader of our own: nothing is ever evaluated."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from typing import TypeVar

from awpo_env.json_text import DEEPEST_VALUE, read_number, unique_object
from awpo_env.types import JSON, ToolCall

Item = TypeVar("Item")

_TOKEN = re.compile(
    r"""\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)
    |(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![0-9A-Za-z_.])
    |(?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
    |(?P<mark>\*\*|[\[\](){}=:,])
    |(?P<end>\Z))""",
    re.VERBOSE | re.DOTALL,
)
_LONGEST_QUOTE = 64
_CONSTANTS: dict[str, JSON] = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\n": ""} | {
    mark: mark for mark in "\\'\""
}


def write_call(call: ToolCall) -> str:
    """Return ``name(argument=value, ...)``; `read_calls` reads it back.

    >>> write_call(ToolCall("get_order", {"order_id": "W1", "with_items": True}))
    "get_order(order_id='W1', with_items=True)"
    """
    if all(name.isascii() and name.isidentifier() and not keyword.iskeyword(name) for name in call.arguments):
        return f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"
    return f"{call.name}(**{call.arguments!r})"


def read_calls(text: str) -> list[ToolCall]:
    """Return the calls of a list ``[name(argument=value, ...), ...]``; values are literals.

    Raises:
        ValueError: It is no such list; the message is one short clause for the model.
    """
    return _Reader(text).calls()


class _Reader:
    """Reads tokens one after the other; every method leaves `_token` at the first one that is not its own."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._next()

    def calls(self) -> list[ToolCall]:
        self._expect("[")
        calls = self._items("]", self._call)
        if self._kind != "end":
            raise self._problem("nothing more")
        return calls

    def _call(self) -> ToolCall:
        name = self._take("name", "the name of a tool")
        self._expect("(")
        pairs = [pair for pairs in self._items(")", self._arguments) for pair in pairs]
        return ToolCall(name, unique_object(pairs))

    def _arguments(self) -> list[tuple[str, JSON]]:
        if self._token == "**":
            self._next()
            self._expect("{")
            return self._items("}", lambda: self._pair(1))
        name = self._take("name", "argument=value")
        self._expect("=")
        return [(name, self._value(1))]

    def _value(self, depth: int) -> JSON:
        if depth >= DEEPEST_VALUE:
            raise ValueError("nested too deeply")
        kind, token = self._kind, self._token
        self._next()
        if kind == "name" and token in _CONSTANTS:
            return _CONSTANTS[token]
        if kind == "number":
            return read_number(token)
        if kind == "string":
            return _unescaped(token[1:-1])
        if token == "[":
            return self._items("]", lambda: self._value(depth + 1))
        if token == "{":
            return unique_object(self._items("}", lambda: self._pair(depth + 1)))
        raise ValueError(f"expected a value instead of {token[:_LONGEST_QUOTE]!r}")

    def _pair(self, depth: int) -> tuple[str, JSON]:
        name = _unescaped(self._take("string", "a name in quotes")[1:-1])
        self._expect(":")
        return name, self._value(depth)

    def _items(self, end: str, read: Callable[[], Item]) -> list[Item]:
        """Read items up to `end`; one more comma before it is allowed, as Python allows it."""
        items = []
        while self._token != end or self._kind != "mark":
            items.append(read())
            if self._token == end:
                break
            self._expect(",")
        self._expect(end)
        return items

    def _take(self, kind: str, expected: str) -> str:
        if self._kind != kind:
            raise self._problem(expected)
        token = self._token
        self._next()
        return token

    def _expect(self, mark: str) -> None:
        if self._kind != "mark" or self._token != mark:
            raise self._problem(repr(mark))
        self._next()

    def _next(self) -> None:
        match = _TOKEN.match(self._text, self._position)
        if match is None:
            raise ValueError(f"not a token at character {self._position}")
        self._kind, self._token = str(match.lastgroup), match[str(match.lastgroup)]
        self._start, self._position = match.start(str(match.lastgroup)), match.end()

    def _problem(self, expected: str) -> ValueError:
        return ValueError(f"expected {expected} at character {self._start}")


def _unescaped(text: str) -> str:
    value = _ESCAPE.sub(_character, text) if "\\" in text else text
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("lone surrogate in text") from None
    return value


def _character(match: re.Match[str]) -> str:
    code = match[1]
    if code in _ESCAPES:
        return _ESCAPES[code]
    if code[0] in "xuU" and len(code) > 1:
        return _code_point(int(code[1:], 16))
    return _code_point(int(code, 8)) if code[0] in "01234567" else match[0]


def _code_point(number: int) -> str:
    if number > 0x10FFFF:
        raise ValueError("no such character")
    return chr(number)

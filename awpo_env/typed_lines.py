"""Lines as a person types them at a tool environment: a call in an easy form, a message to the user, or a command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from awpo_env.json_text import loads_strict
from awpo_env.types import JSON, AssistantMessage, ToolCall

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_KIND_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}

COMMAND_NAMES = ("tools", "hint", "say", "help", "quit")

HELP = """\
A line is a message to the user, which ends your turn, or a call:
  find_customer email=ana@x.io         values are read as the tool's schema says; quote what has spaces
  find_customer {"email": "ana@x.io"}  or all arguments as JSON
Commands:
  /tools [NAME]  the tools, or everything about one    /hint  the next step of the reference solution
  /say TEXT      say something that looks like a call  /help  this text    /quit  leave"""


class Misread(ValueError):
    """A typed line cannot be read; the message says how to write it."""


@dataclass(frozen=True, slots=True)
class Command:
    """A line such as ``/tools find_customer``."""

    name: str
    argument: str


def parse_line(line: str, tools: Mapping[str, JSON]) -> AssistantMessage | Command | None:
    """Read one typed line; an empty one is None.

    A call is a tool's name followed by nothing, by ``name=value`` words or by a JSON object. A name that is no tool
    makes a call only before ``name=value`` words, so that the environment can answer it as it would answer a model.

    Args:
        line: What was typed.
        tools: The tools on show: argument schemas by tool name.

    Raises:
        Misread: It begins like a call and cannot be read as one.

    >>> parse_line("add a=1", {"add": {"properties": {"a": {"type": "integer"}}}}).calls
    (ToolCall(name='add', arguments={'a': 1}),)
    """
    line = line.strip()
    if not line:
        return None
    first, _, rest = line.partition(" ")
    rest = rest.strip()
    if first == "/say":
        return AssistantMessage(content=rest)
    if first.startswith("/"):
        return Command(first[1:], rest)
    if line in COMMAND_NAMES and line not in tools:
        raise Misread(f"write  /{line} , or  /say {line}  to say this to the user")
    if first not in tools and not _looks_like_call(first, rest):
        return AssistantMessage(content=line)
    arguments = _read_json(first, rest) if rest.startswith("{") else _read_words(first, rest, tools.get(first, {}))
    return AssistantMessage(calls=(ToolCall(first, arguments),))


def _looks_like_call(first: str, rest: str) -> bool:
    try:
        words = shlex.split(rest)
    except ValueError:
        return False
    return first.isidentifier() and bool(words) and all(_ASSIGNMENT.fullmatch(word) for word in words)


def _read_json(name: str, text: str) -> dict[str, JSON]:
    try:
        return dict(loads_strict(text))
    except ValueError as error:
        raise Misread(f"the arguments of {name} are not JSON: {error}") from None


def _read_words(name: str, text: str, parameters: Mapping[str, JSON]) -> dict[str, JSON]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise Misread(f"{str(error).lower()} in the arguments of {name}") from None
    arguments: dict[str, JSON] = {}
    for word in words:
        if not _ASSIGNMENT.fullmatch(word):
            raise Misread(
                f"{word!r} is not name=value; write  {name} argument=value , quote values with spaces, "
                f"or write  /say {name} ...  to say this to the user"
            )
        key, _, value = word.partition("=")
        arguments[key] = read_value(value, parameters.get("properties", {}).get(key, {}))
    return arguments


def read_value(text: str, schema: Mapping[str, JSON] | bool) -> JSON:
    """Return typed `text` as the kind of value `schema` asks for, or as the text itself where it is no such value.

    Arrays may be typed as JSON or as a comma-separated list.

    >>> read_value("3", {"type": "integer"}), read_value("3", {"type": "string"}), read_value("a,b", {"type": "array"})
    (3, '3', ['a', 'b'])
    """
    schema = {} if isinstance(schema, bool) else schema
    kinds = _kinds(schema)
    if kinds == {"string"}:
        return text
    try:
        value = loads_strict(text.lower() if text.lower() in ("true", "false", "null") else text)
    except ValueError:
        if "array" not in kinds:
            return text
        # Shell-like quoting has already taken the quotes out of ["a","b"].
        items = text.removeprefix("[").removesuffix("]").split(",")
        return [read_value(item.strip(), schema.get("items", {"type": "string"})) for item in items if item.strip()]
    if "array" in kinds and not isinstance(value, list):
        return [read_value(text, schema.get("items", {"type": "string"}))]
    is_wanted = _kind(value) in kinds or (_kind(value) == "integer" and "number" in kinds)
    return text if "string" in kinds and not is_wanted else value


def _kinds(schema: Mapping[str, JSON] | bool) -> set[str]:
    """Return the JSON types a schema allows; empty when it does not say."""
    if isinstance(schema, bool):
        return set()
    if "type" in schema:
        return {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
    if "enum" in schema or "const" in schema:
        return {_kind(value) for value in schema.get("enum", [schema.get("const")])}
    return {kind for keyword in ("anyOf", "oneOf") for branch in schema.get(keyword, ()) for kind in _kinds(branch)}


def _kind(value: JSON) -> str:
    return _KIND_NAMES.get(type(value), "null")

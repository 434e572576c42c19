"""Tool declarations in the shapes others write (OpenAI, MCP, Anthropic), read into the canonical one and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping

from awpo_env.errors import SuiteError, UsageError, did_you_mean
from awpo_env.types import JSON

_LONGEST_NAME = 64
_STRICT_IN_MCP = "awpo/strict"
_NO_PARAMETERS = {"type": "object", "properties": {}}


def read_tool(declaration: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return a declaration of any shape as the OpenAI chat function tool, which is the canonical one here.

    Name, description, schema and ``strict`` are kept as they are, down to the last keyword of the schema. What a shape
    says beyond them (an icon, a cache hint, the schema of results) is no concern of the model and left behind; only an
    OpenAI chat declaration is kept whole.

    Args:
        declaration: One of ``{"type": "function", "function": {...}}`` (OpenAI chat), ``{"type": "function", "name",
            "parameters"}`` (OpenAI responses), ``{"name", "inputSchema"}`` (MCP), ``{"name", "input_schema"}``
            (Anthropic).

    Raises:
        SuiteError: It is none of these.
    """
    if isinstance(declaration, Mapping):
        if "function" in declaration:
            return dict(declaration)
        if "inputSchema" in declaration:
            meta = declaration.get("_meta") or {}
            strict = {"strict": meta[_STRICT_IN_MCP]} if _STRICT_IN_MCP in meta else {}
            return _canonical({**declaration, "parameters": declaration["inputSchema"], **strict})
        if "input_schema" in declaration:
            return _canonical({**declaration, "parameters": declaration["input_schema"]})
        if declaration.get("type") == "function" and "name" in declaration:
            return _canonical(declaration)
    raise SuiteError(
        f"tool declaration {repr(declaration)[:80]} has no known shape; expected an OpenAI chat tool "
        '({"type": "function", "function": {...}}), an OpenAI responses tool ({"type": "function", "name", '
        '"parameters"}), an MCP tool ("inputSchema") or an Anthropic tool ("input_schema")'
    )


def _canonical(fields: Mapping[str, JSON]) -> dict[str, JSON]:
    function = {"name": fields.get("name"), "description": fields.get("description")}
    function["parameters"] = fields["parameters"] if fields.get("parameters") is not None else _NO_PARAMETERS
    if fields.get("strict") is not None:
        function["strict"] = fields["strict"]
    return {"type": "function", "function": function}


def write_tool(tool: Mapping[str, JSON], shape: str) -> dict[str, JSON]:
    """Return a canonical declaration in another shape; `read_tool` gives the same declaration back.

    Args:
        tool: An OpenAI chat function tool.
        shape: One of `SHAPES`.

    Raises:
        UsageError: There is no such shape.
    """
    if shape not in SHAPES:
        raise UsageError(f"unknown shape {shape!r}; expected one of {tuple(SHAPES)}.{did_you_mean(shape, SHAPES)}")
    return SHAPES[shape](tool["function"])


def _responses(function: Mapping[str, JSON]) -> dict[str, JSON]:
    return {"type": "function", **function}


def _mcp(function: Mapping[str, JSON]) -> dict[str, JSON]:
    meta = {"_meta": {_STRICT_IN_MCP: function["strict"]}} if "strict" in function else {}
    plain = {"name": function["name"], "description": function["description"], "inputSchema": function["parameters"]}
    return {**plain, **meta}


def _anthropic(function: Mapping[str, JSON]) -> dict[str, JSON]:
    return {("input_schema" if name == "parameters" else name): value for name, value in function.items()}


SHAPES: Mapping[str, Callable[[Mapping[str, JSON]], dict[str, JSON]]] = {
    "openai_chat": lambda function: {"type": "function", "function": dict(function)},
    "openai_responses": _responses,
    "mcp": _mcp,
    "anthropic": _anthropic,
}
"""How each shape writes the inner object of a canonical declaration."""


def function_names(names: Iterable[str], reserved: Collection[str] = ()) -> dict[str, str]:
    """Return a function name for each foreign name, all different: what the model calls, mapped back by the keys.

    A name that already is 1 to 64 letters, digits, ``_`` or ``-`` after a letter, and not reserved, stays as it is.

    Args:
        names: Foreign names, each once; their order decides who gets the number when two become alike.
        reserved: Function names that mean something else.

    >>> function_names(["notes.add", "notes_add", "2nd"])
    {'notes.add': 'notes_add_2', 'notes_add': 'notes_add', '2nd': 'tool_2nd'}
    """
    foreign = list(names)
    mapped = {name: _as_function_name(name, reserved) for name in foreign}
    taken = {name for name in foreign if mapped[name] == name}
    for name in foreign:
        if name in taken:
            continue
        candidate, number = mapped[name], 1
        while candidate in taken:
            number += 1
            candidate = f"{mapped[name][: _LONGEST_NAME - 1 - len(str(number))]}_{number}"
        mapped[name] = candidate
        taken.add(candidate)
    return mapped


def _as_function_name(name: str, reserved: Collection[str]) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if not re.match("[A-Za-z]", plain) or plain in reserved:
        plain = f"tool_{plain.lstrip('_')}"
    return plain[:_LONGEST_NAME]

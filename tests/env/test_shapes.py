"""Declarations in foreign shapes mean what ours mean, to the last keyword, and foreign names become function names."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awpo_env.errors import SuiteError, UsageError
from awpo_env.schema import ToolSet
from awpo_env.shapes import SHAPES, function_names, read_tool, write_tool
from awpo_env.types import ToolCall

PARAMETERS = {
    "type": "object",
    "$defs": {"place": {"type": "object", "properties": {"city": {"type": "string", "pattern": "^[A-Z]"}}}},
    "properties": {
        "where": {"$ref": "#/$defs/place", "description": "Where."},
        "stops": {"type": "array", "items": {"$ref": "#/$defs/place"}, "minItems": 1, "uniqueItems": True},
        "when": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}], "default": None},
        "one": {"oneOf": [{"const": 1}, {"enum": ["a", None, 2.5]}]},
        "all": {"allOf": [{"type": "integer", "minimum": 1}, {"exclusiveMaximum": 9, "multipleOf": 2}]},
        "map": {"type": "object", "additionalProperties": {"type": "number"}, "propertyNames": {"maxLength": 3}},
        "pair": {"type": "array", "prefixItems": [{"type": "boolean"}, True], "items": False},
        "never": False,
    },
    "required": ["where"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "travel", "description": "Go.", "parameters": PARAMETERS, "strict": True},
}
FOREIGN = {
    "openai_chat": TOOL,
    "openai_responses": {
        "type": "function",
        "name": "travel",
        "description": "Go.",
        "parameters": PARAMETERS,
        "strict": True,
    },
    "mcp": {"name": "travel", "description": "Go.", "inputSchema": PARAMETERS, "_meta": {"awpo/strict": True}},
    "anthropic": {"name": "travel", "description": "Go.", "input_schema": PARAMETERS, "strict": True},
}


@pytest.mark.parametrize("shape", FOREIGN)
def test_a_tool_is_read_and_written_in_every_shape(shape: str) -> None:
    assert read_tool(FOREIGN[shape]) == TOOL
    assert write_tool(TOOL, shape) == FOREIGN[shape]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    parameters=st.dictionaries(st.text(), json_values, max_size=4),
    name=st.text(),
    description=st.text(),
    strict=st.none() | st.booleans(),
)
def test_a_round_trip_through_any_shape_loses_nothing(
    parameters: dict[str, Any], name: str, description: str, strict: bool | None
) -> None:
    function = {"name": name, "description": description, "parameters": parameters}
    tool = {"type": "function", "function": function if strict is None else {**function, "strict": strict}}
    for shape in SHAPES:
        assert read_tool(json.loads(json.dumps(write_tool(tool, shape)))) == tool


@pytest.mark.parametrize("shape", FOREIGN)
def test_calls_are_checked_alike_whatever_the_shape(shape: str) -> None:
    tools = ToolSet([read_tool(FOREIGN[shape])])
    assert tools.check(ToolCall("travel", {"where": {"city": "Oslo"}, "all": 4, "pair": [True, 1]}), ["travel"]) is None
    for wrong in ({"city": "oslo"}, {"city": 1}, "Oslo"):
        assert tools.check(ToolCall("travel", {"where": wrong}), ["travel"]) is not None


@pytest.mark.parametrize(
    ("declaration", "parameters"),
    [
        ({"type": "function", "name": "now", "description": "Tell the time.", "parameters": None}, {}),
        ({"type": "function", "name": "now", "description": "Tell the time."}, {}),
        ({"name": "now", "description": "Tell the time.", "inputSchema": {"type": "object"}, "title": "Now"}, None),
        ({"name": "now", "description": "Tell the time.", "input_schema": {"type": "object"}, "type": "custom"}, None),
    ],
)
def test_what_may_be_left_out_or_said_besides(declaration: dict[str, Any], parameters: Any) -> None:
    schema = {"type": "object"} if parameters is None else {"type": "object", "properties": {}}
    function = {"name": "now", "description": "Tell the time.", "parameters": schema}
    assert read_tool(declaration) == {"type": "function", "function": function}


@pytest.mark.parametrize("declaration", ["travel", None, {}, {"name": "travel"}, {"type": "web_search", "name": "web"}])
def test_what_has_no_shape_is_refused(declaration: Any) -> None:
    with pytest.raises(SuiteError, match="has no known shape; expected an OpenAI chat tool"):
        read_tool(declaration)


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown shape 'antropic'.*Did you mean 'anthropic'"):
        write_tool(TOOL, "antropic")


def test_names_are_mapped_only_where_they_must_be() -> None:
    names = ["get-user_2", "a.b", "a_b", "a/b", "close", "__init__", "7", "\u00e9t\u00e9", "", "x" * 70, "x" * 71]
    assert function_names(names, reserved=("close",)) == {
        "get-user_2": "get-user_2",
        "a.b": "a_b_2",
        "a_b": "a_b",
        "a/b": "a_b_3",
        "close": "tool_close",
        "__init__": "tool_init__",
        "7": "tool_7",
        "\u00e9t\u00e9": "tool_t_",
        "": "tool_",
        "x" * 70: "x" * 64,
        "x" * 71: "x" * 62 + "_2",
    }


@given(st.lists(st.text() | st.sampled_from(["a.b", "a_b", "a b", "tool_a", "_a"]), unique=True))
def test_mapped_names_are_different_and_can_be_called(names: list[str]) -> None:
    mapped = function_names(names, reserved=("close",))
    assert list(mapped) == names
    assert len(set(mapped.values())) == len(names)
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_-]{0,63}", name) and name != "close" for name in mapped.values())

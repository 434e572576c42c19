"""Sampled values are valid, and what cannot be sampled is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Space
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from awpo_env.parsing import get_parser
from awpo_env.sampling import NotSampleableError, sample_call, sample_value
from awpo_env.schema import ToolSet
from awpo_env.spaces import AssistantText, Declarations, Messages
from awpo_env.suites import Suite
from awpo_env.types import ToolCall


def bounded(kind: str, low: Any, width: Any, exclusive: int) -> dict[str, Any]:
    """A number schema with room between its bounds; `exclusive` says which of the two are exclusive."""
    names = ("exclusiveMinimum" if exclusive & 1 else "minimum", "exclusiveMaximum" if exclusive & 2 else "maximum")
    schema = {"type": kind, names[0]: low, names[1]: low + width}
    if exclusive & 4:
        del schema[names[0]]
    if exclusive & 8:
        del schema[names[1]]
    return schema


leaves = st.one_of(
    st.builds(bounded, st.just("integer"), st.integers(-50, 50), st.integers(2, 9), st.integers(0, 15)),
    st.builds(bounded, st.just("number"), st.floats(-50, 50), st.floats(0.001, 9), st.integers(0, 15)),
    st.builds(
        lambda low, width: {"type": "string", "minLength": low, "maxLength": low + width},
        st.integers(0, 9),
        st.integers(0, 4),
    ),
    st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {"const": 4}, {"enum": ["a", 1]}, {"type": ["string", "null"]}]
    ),
    st.just({"type": "string", "pattern": "^W[0-9]$", "examples": ["W1", "W2"]}),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda items, low, width: {"type": "array", "items": items, "minItems": low, "maxItems": low + width},
            inner,
            st.integers(0, 3),
            st.integers(0, 3),
        ),
        st.builds(
            lambda parts, required: {"type": "object", "properties": parts, "required": sorted(parts)[:required]},
            st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
            st.integers(0, 4),
        ),
        st.builds(
            lambda branches: {"anyOf": branches, "description": "either"}, st.lists(inner, min_size=1, max_size=3)
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(schemas, st.integers(0, 2**32))
def test_every_sampled_value_is_valid(schema: dict[str, Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    validator = Draft202012Validator(schema)
    for _ in range(3):
        validator.validate(sample_value(schema, rng))


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"type": "string", "pattern": "^a"}, "pattern"),
        ({"type": "string", "format": "date"}, "format"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "integer", "multipleOf": 3}, "multipleOf"),
        ({"$ref": "#/$defs/a"}, r"\$ref"),
        ({"type": "object", "anyOf": [{}]}, "anyOf"),
        ({"oneOf": [{"type": "null"}]}, "oneOf"),
        ({"type": "object", "required": ["a"]}, "required property 'a'"),
        ({}, "type None"),
        (True, "the schema true"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "the schema false"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "^a"}}}, "pattern"),
        ({"anyOf": [{"type": "null"}, {"not": {}}]}, "not"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "at least 3 and at most 2"),
        ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 4}, "at least 4 and at most 3"),
        ({"type": "integer", "minimum": 0.2, "maximum": 0.8}, "at least 1 and at most 0"),
        ({"type": "integer", "minimum": 2**63}, "cannot sample an integer"),
        ({"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "cannot sample a number"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "at least 3 and at most 2"),
        ({"type": "string", "minLength": 10**9}, "cannot sample characters"),
        ({"type": "array", "items": {"type": "null"}, "minItems": 10**9}, "asks for up to"),
        ({"type": "array", "minItems": 90, "items": {"type": "array", "minItems": 200}}, "asks for up to"),
        ({"type": "array", "minItems": 1, "items": False}, "at least 1 and at most 0"),
    ],
)
def test_what_cannot_be_sampled_is_refused_by_name(schema: dict[str, Any], name: str) -> None:
    with pytest.raises(NotSampleableError, match=name):
        sample_value(schema, np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_refused_does_not_depend_on_what_would_be_drawn(seed: int) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "format": "date"}}}
    with pytest.raises(NotSampleableError, match="'format'"):
        sample_value(schema, np.random.default_rng(seed))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
        {"type": "integer", "minimum": 2, "exclusiveMinimum": 4, "maximum": 9, "exclusiveMaximum": 6},
        {"type": "integer", "minimum": 2**62 + 1, "maximum": 2**62 + 1},
        {"type": "number", "minimum": -1.7e308, "maximum": 1.7e308},
        {"type": "number", "minimum": 2, "maximum": 2},
        {"type": "array", "items": {"not": {}}, "maxItems": 0},
        {"type": "array", "items": False},
        {"type": "string", "minLength": 2.0, "maxLength": 3.0},
        {"type": "object", "properties": {"a": False, "b": {"type": "null"}}, "required": ["b"]},
    ],
    ids=str,
)
def test_the_edges_of_the_subset_are_sampled(schema: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        Draft202012Validator(schema).validate(sample_value(schema, rng))


def test_sampled_examples_are_the_caller_s_to_change() -> None:
    properties = {"a": {"type": "array", "examples": [[1], [2]]}, "b": {"const": {"c": []}}}
    parameters = {"type": "object", "properties": properties, "required": ["a", "b"]}
    tools = ToolSet([{"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}])
    first = sample_call(tools, np.random.default_rng(0))
    first.arguments["a"].append(3)
    first.arguments["b"]["c"].append(4)
    again = sample_call(tools, np.random.default_rng(0))
    assert (len(again.arguments["a"]), again.arguments["b"]) == (1, {"c": []})


def test_equal_generators_give_equal_values() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "number"}}}
    first, second = (sample_value(schema, np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_the_action_space_samples_calls_that_pass(notes: Suite) -> None:
    parser = get_parser("hermes")
    space = AssistantText(notes.tools, parser, seed=0)
    seen = set()
    for _ in range(100):
        (call,) = parser.parse(space.sample()).calls
        assert isinstance(call, ToolCall)
        assert notes.tools.check(call, list(notes.tools)) is None
        seen.add(call.name)
    assert seen == set(notes.tools)


def test_invalid_examples_are_reported_instead_of_sampled() -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "integer", "examples": ["x"]}}, "required": ["a"]}
    tools = ToolSet([{"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}])
    with pytest.raises(NotSampleableError, match="'f' are invalid, check its 'examples'"):
        AssistantText(tools, get_parser("hermes"), seed=0).sample()


def test_spaces_hold_what_they_sample_and_nothing_else(notes: Suite) -> None:
    declarations = list(notes.tools.declarations.values())
    text = AssistantText(notes.tools, get_parser("hermes"), seed=0)
    spaces: list[tuple[Space[Any], Any]] = [
        (text, 3),
        (Messages(seed=0), ({"role": "nobody", "content": ""},)),
        (Messages(seed=0), [{"role": "user", "content": ""}]),
        (Messages(seed=0), ({"role": "user", "content": None},)),
        (Declarations(declarations, seed=0), [{"type": "function"}]),
        (Declarations(declarations, seed=0), tuple(declarations)),
    ]
    for space, other in spaces:
        assert space.sample() in space
        assert other not in space
    assert text == AssistantText(notes.tools, get_parser("hermes"))
    assert text != AssistantText(ToolSet(declarations[:1]), get_parser("hermes"))

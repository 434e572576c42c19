"""The quick test of flat schemas says yes only where the full validation does, and wherever it matters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awpo_env.flat_schema import flat_test
from awpo_env.schema_rules import bounded, compile_schema
from awpo_env.suites import load_suite

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from(
    [None, True, False, 0, 1, 2, -1, 1.0, 1.5, 2**70, 1e300, "", "a", "ab", "1", "abc" * 30, [], ["a"], {}, {"a": 1}]
)
KEYWORDS = {
    "type": st.sampled_from(["boolean", "integer", "number", "string", "array", "null", ["string", "null"]]),
    "enum": st.lists(VALUES, min_size=1, max_size=3),
    "pattern": st.sampled_from(["^a", "b$", "^(a|ab)+$", "(abc)*1"]),
    "minLength": st.integers(0, 2),
    "maxLength": st.integers(0, 2),
    "minimum": st.sampled_from([-1, 0, 1.5]),
    "maximum": st.sampled_from([0, 1, 1.5]),
    "multipleOf": st.just(2),
    "const": VALUES,
    "description": st.just("words"),
    "not": st.just({"const": "a"}),
}
PARTS = st.booleans() | st.fixed_dictionaries({}, optional=KEYWORDS) | st.sampled_from([{"type": "string"}])
SCHEMAS = st.fixed_dictionaries(
    {"type": st.just("object")},
    optional={
        "properties": st.dictionaries(NAMES, PARTS, max_size=3),
        "required": st.lists(NAMES, unique=True, max_size=2),
        "additionalProperties": st.booleans() | st.just({"type": "string"}),
        "maxProperties": st.just(1),
        "anyOf": st.just([{"required": ["a"]}]),
    },
)


@given(schema=SCHEMAS, arguments=st.dictionaries(NAMES, VALUES, max_size=3))
def test_whatever_fits_is_valid(schema: dict[str, Any], arguments: dict[str, Any]) -> None:
    if flat_test(schema)(arguments):
        assert bounded(compile_schema(schema), arguments, 1) == []


@pytest.mark.parametrize(
    ("part", "fitting", "others"),
    [
        ({"type": "string"}, ["", "a"], [None, 1, ["a"]]),
        ({"type": "string", "minLength": 1, "maxLength": 2}, ["a", "ab"], ["", "abc"]),
        ({"type": "string", "pattern": "^[ab]+$"}, ["ab"], ["abc", ""]),
        ({"type": "string", "enum": ["a", "b"]}, ["a"], ["c", ""]),
        ({"type": "boolean"}, [True, False], [0, "true", None]),
        ({"type": "integer", "minimum": 0, "maximum": 2}, [0, 2, 1.0], [-1, 3, 1.5, True]),
        ({"type": "integer"}, [2**63 - 1], [2**63, 1e300]),
        ({"type": "number", "minimum": 0.5}, [0.5, 7], [0, True, "1"]),
        ({"type": "string", "format": "date"}, [], ["2025-01-01"]),
        ({"type": ["string", "null"]}, [], ["a", None]),
    ],
)
def test_what_fits(part: dict[str, Any], fitting: list[Any], others: list[Any]) -> None:
    fits = flat_test({"type": "object", "properties": {"a": part}, "required": ["a"], "additionalProperties": False})
    assert [value for value in fitting if not fits({"a": value})] == []
    assert [value for value in others if fits({"a": value})] == []
    assert not fits({})
    assert not any(fits({"a": value, "b": value}) for value in fitting)


def test_every_reference_call_of_the_shop_takes_the_short_way() -> None:
    suite = load_suite("retail")
    fits = {name: flat_test(suite.tools.parameters(name)) for name in suite.tools}
    calls = [call for index in range(100) for call in suite.task(f"train/full/{index}").reference_calls()]
    assert len({call.name for call in calls}) > 15
    assert [call for call in calls if not fits[call.name](call.arguments)] == []

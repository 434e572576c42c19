"""A tool's schema says what `jsonschema` says, and no schema and no call can make it say so late."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from awpo_env.errors import SuiteError
from awpo_env.schema import ToolSet
from awpo_env.types import ToolCall

STANDARD_CASES = Path(__file__).with_name("json_schema_test_suite.jsonl").read_text(encoding="utf-8").splitlines()[1:]
NUM_GENERATED = 500
INSTANCES_EACH = 8


def tool(schema: Any) -> ToolSet:
    """A tool with one argument of this schema; its references keep their meaning, as it is a resource of its own."""
    own = {"$id": "https://awpo.example/value", **schema} if isinstance(schema, dict) else schema
    parameters = {"type": "object", "properties": {"value": own}, "required": ["value"]}
    return ToolSet([{"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}])


def accepts(tools: ToolSet, value: Any) -> bool:
    return tools.check(ToolCall("f", {"value": value}), ["f"]) is None


@pytest.mark.parametrize("line", STANDARD_CASES, ids=lambda line: "/".join(json.loads(line)[:2])[:60])
def test_the_standard_s_own_cases_come_out_as_the_standard_has_them(line: str) -> None:
    _, _, schema, instances = json.loads(line)
    tools = tool(schema)
    for value, is_valid in instances:
        assert accepts(tools, value) is is_valid, value


def random_value(rng: random.Random, depth: int = 2) -> Any:
    kind = rng.randrange(8 if depth else 6)
    if kind == 6:
        return [random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return {rng.choice("abcx"): random_value(rng, depth - 1) for _ in range(rng.randrange(4))}
    return rng.choice(
        (
            None,
            rng.random() < 0.5,
            rng.randrange(-2, 5),
            rng.choice((0.5, 2.0, -1.5)),
            rng.choice(("", "a", "ab", "a1")),
        )
    )


def random_schema(rng: random.Random, depth: int = 3) -> Any:
    """Any mixture of keywords, sensible or not; references go to the two definitions of the root."""
    if rng.random() < 0.06:
        return rng.random() < 0.7
    part = lambda: random_schema(rng, depth - 1)  # noqa: E731 - one word for the table below
    number = lambda low=0, high=4: rng.randrange(low, high)  # noqa: E731
    types = ("null", "boolean", "integer", "number", "string", "array", "object")
    leaves = {
        "type": lambda: rng.choice((rng.choice(types), rng.sample(types, 2))),
        "enum": lambda: [random_value(rng, 1) for _ in range(number(1))],
        "const": lambda: random_value(rng, 1),
        "minimum": lambda: number(-2),
        "exclusiveMaximum": lambda: number(0, 6),
        "multipleOf": lambda: rng.choice((1, 2, 0.5)),
        "minLength": lambda: number(0, 3),
        "maxLength": number,
        "pattern": lambda: rng.choice(("^a", "b$", "[0-9]", "^(a|b)*$", "^.?$")),
        "minItems": lambda: number(0, 2),
        "maxItems": number,
        "uniqueItems": lambda: rng.random() < 0.8,
        "minProperties": lambda: number(0, 2),
        "maxProperties": number,
        "required": lambda: rng.sample("abc", number(0, 3)),
        "dependentRequired": lambda: {"a": ["b"]},
        "$ref": lambda: rng.choice(("#/$defs/one", "#/$defs/two")),
        "format": lambda: "date",
    }
    inner = {
        "properties": lambda: {name: part() for name in rng.sample("abc", number(1))},
        "additionalProperties": part,
        "patternProperties": lambda: {"^[ab]": part()},
        "propertyNames": part,
        "dependentSchemas": lambda: {"a": part()},
        "items": part,
        "prefixItems": lambda: [part() for _ in range(number(1, 3))],
        "contains": part,
        "allOf": lambda: [part() for _ in range(number(1, 3))],
        "anyOf": lambda: [part() for _ in range(number(1))],
        "oneOf": lambda: [part() for _ in range(number(1))],
        "not": part,
        "if": part,
        "then": part,
        "else": part,
        "unevaluatedProperties": part,
        "unevaluatedItems": part,
    }
    keywords = leaves | inner if depth else leaves
    return {name: keywords[name]() for name in rng.sample(list(keywords), rng.randrange(1, 4))}


def test_generated_schemas_get_the_verdicts_of_jsonschema() -> None:
    rng = random.Random(0)
    verdicts = []
    for _ in range(NUM_GENERATED):
        definitions = {"one": {"type": ["string", "integer"]}, "two": {"items": {"$ref": "#/$defs/two"}, "maxItems": 2}}
        schema = random_schema(rng)
        schema = schema | {"$defs": definitions} if isinstance(schema, dict) else schema
        tools, reference = tool(schema), Draft202012Validator(schema)
        for _ in range(INSTANCES_EACH):
            value = random_value(rng)
            verdicts.append(accepts(tools, value))
            assert verdicts[-1] is reference.is_valid(value), (schema, value)
    assert 0.2 < sum(verdicts) / len(verdicts) < 0.8, "both verdicts have to be tried"


def test_equal_items_are_found_by_value() -> None:
    tools = tool({"uniqueItems": True})
    assert accepts(tools, [1, True, 0, False, "1", [1], [True], {"a": 1}, {"a": True}, [], {}, None])
    for equal in ([1, 1.0], [[1], [1.0]], [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], [None, None]):
        assert not accepts(tools, equal)


def nested(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = [value]
    return value


def doubling(levels: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {
        f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(levels)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{levels}": {}}}


DEEP: Any = {}
for _ in range(10_000):
    DEEP = {"items": DEEP}


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"$ref": "https://127.0.0.1:9/x.json"}, "references must stay within it"),
        ({"$ref": "#/$defs/absent"}, "references must stay within it"),
        ({"$ref": "file:///etc/passwd"}, "references must stay within it"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}}, "refers to itself without end"),
        (doubling(40), "applies more than 256 schemas to one value"),
        (DEEP, "nested too deeply"),
        ({"pattern": "["}, "is not a 'regex'"),
        ({"pattern": r"(a)\1"}, "uses a back-reference"),
        ({"patternProperties": {"^(a+)+$": {}}}, "cannot be matched in bounded time"),
        ({"properties": {"a": {"$schema": "http://json-schema.org/draft-04/schema#"}}}, "another dialect"),
        ({"minimum": float("nan")}, "cannot be written as JSON"),
        ({"description": "\ud800"}, "cannot be written as JSON"),
        ({"default": {1, 2}}, "cannot be written as JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schema_that_could_hold_up_or_break_a_call_is_refused_in_one_sentence(schema: Any, problem: str) -> None:
    with pytest.raises(SuiteError, match="tool 'f': 'parameters' ") as caught:
        tool(schema)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 40 + "!"),
        ({"pattern": "^(a+)+$"}, "a" * 90_000 + "!"),
        ({"pattern": "(x+x+)+y"}, "x" * 5_000),
        ({"propertyNames": {"pattern": "^(a|a)*$"}}, {"a" * 40 + "!": 1}),
        ({"items": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}, nested(1, 30)),
        ({"items": {"type": "integer", "minimum": 0}}, list(range(50_000))),
        ({"anyOf": [{"items": {"type": "integer"}}, {"items": {"type": "null"}}]}, ["a"] * 30_000),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_a_call_that_would_take_for_ever_is_an_error_soon(schema: Any, value: Any) -> None:
    tools = tool(schema)
    start = time.process_time()
    assert not accepts(tools, value)
    assert time.process_time() - start < 2


@pytest.mark.slow
def test_many_items_that_cannot_be_sorted_are_compared_soon() -> None:
    start = time.process_time()
    assert accepts(tool({"uniqueItems": True}), [{"a": number} for number in range(9_000)] + ["a"])
    assert time.process_time() - start < 2


def test_the_dialect_named_at_the_root_changes_nothing() -> None:
    parameters = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"again": {"$ref": "#"}, "count": {"type": "integer"}},
    }
    tools = ToolSet([{"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}])
    assert tools.check(ToolCall("f", {"again": {"count": 2**63 - 1}}), ["f"]) is None
    error = tools.check(ToolCall("f", {"again": {"count": 2**63}}), ["f"])
    assert error is not None and error["error"]["path"] == "/again/count"

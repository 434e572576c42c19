"""A near miss is wrong in the one way it names, by our verdict and by that of `jsonschema`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from awpo_env.execution import run_call
from awpo_env.near_misses import sample_near_miss
from awpo_env.sampling import NotSampleableError, sample_call
from awpo_env.schema import ToolSet
from awpo_env.suites import BUILT_IN, Suite, load_suite

EVERY_KEYWORD = {
    "count": {"type": "integer", "minimum": 1, "maximum": 9},
    "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "colour": {"enum": ["red", "green"]},
    "kind": {"const": "fixed"},
    "title": {"type": "string", "minLength": 2, "maxLength": 5},
    "code": {"type": "string", "pattern": "^W[0-9]+$", "examples": ["W1", "W22"]},
    "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    "ids": {"type": "array", "uniqueItems": True, "items": {"type": "integer"}, "examples": [[1, 2]]},
    "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    "a/b~": {"type": "object", "properties": {"x": {"type": "null"}}, "required": ["x"], "additionalProperties": False},
}
FAULTS = {
    *("unknown_tool", "type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "const"),
    *("minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems", "anyOf", "required"),
    "additionalProperties",
}


def declare(properties: dict[str, Any]) -> ToolSet:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return ToolSet([{"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}])


def assert_one_fault(tools: ToolSet, rng: np.random.Generator) -> tuple[str, str]:
    miss = sample_near_miss(tools, rng)
    error = tools.check(miss.call, list(tools))
    assert error is not None and isinstance(miss.call.arguments, dict)
    if miss.fault == "unknown_tool":
        assert error["error"]["code"] == "unknown_tool"
        return miss.fault, miss.path
    assert error["error"]["code"] == "invalid_arguments"
    assert error["error"]["path"] == miss.path
    assert "also" not in error["error"]
    reports = list(Draft202012Validator(tools.parameters(miss.call.name)).iter_errors(miss.call.arguments))
    assert {report.validator for report in reports} == {miss.fault}
    assert len({tuple(report.absolute_path) for report in reports}) == 1
    return miss.fault, miss.path


def test_every_fault_comes_up_and_each_is_the_only_one() -> None:
    tools, rng = declare(EVERY_KEYWORD), np.random.default_rng(0)
    seen = [assert_one_fault(tools, rng) for _ in range(400)]
    assert {fault for fault, _ in seen} == FAULTS
    assert ("required", "/a~1b~0") in seen
    assert ("type", "/tags/0") in seen


@pytest.mark.parametrize("name", BUILT_IN)
def test_near_misses_of_built_in_suites_are_answered_with_an_error(name: str) -> None:
    suite, rng = load_suite(name), np.random.default_rng(0)
    for _ in range(40):
        assert_one_fault(suite.tools, rng)


def test_a_near_miss_of_a_backend_never_runs(notes: Suite) -> None:
    rng = np.random.default_rng(0)
    backend = notes.backend(notes.task("ask").state)
    before = backend.snapshot()
    for _ in range(30):
        result, has_run = run_call(backend, notes.tools, sample_near_miss(notes.tools, rng).call, list(notes.tools))
        assert not has_run and "error" in result
    assert backend.snapshot() == before


def test_equal_generators_give_equal_near_misses() -> None:
    first, second = (sample_near_miss(declare(EVERY_KEYWORD), np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_a_tool_that_cannot_be_sampled_is_named_with_the_reason() -> None:
    tools = declare({"day": {"type": "string", "format": "date"}})
    for sample in (sample_call, sample_near_miss):
        with pytest.raises(NotSampleableError, match="tool 'f': cannot sample a schema with 'format'"):
            sample(tools, np.random.default_rng(0))


def test_a_tool_whose_every_misspelling_is_a_tool_is_refused() -> None:
    nothing = {"type": "object", "properties": {}}
    names = ("a", "aa", "a_")
    tools = ToolSet(
        {"type": "function", "function": {"name": name, "description": "d", "parameters": nothing}} for name in names
    )
    with pytest.raises(NotSampleableError, match="every misspelling"):
        for seed in range(50):
            sample_near_miss(tools, np.random.default_rng(seed))

"""Calls that are wrong in exactly one named way: what a model does when it is nearly right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from awpo_env.sampling import NotSampleableError, sample_call
from awpo_env.schema import ToolSet
from awpo_env.types import JSON, ErrorCode, ToolCall

_STRANGERS: tuple[JSON, ...] = ("three", 7, 0.5, True, None, [], {})  # one value of every type
_MOST_ADDED = 1_000  # items or characters added to make something too long

_Change = tuple[JSON, str, str]  # the changed value, the keyword it breaks, and where


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A call with one fault.

    Attributes:
        call: What a model would ask for.
        fault: The keyword of the schema that is broken, or ``unknown_tool``.
        path: Where, as a JSON Pointer into the arguments.
    """

    call: ToolCall
    fault: str
    path: str


def sample_near_miss(tools: ToolSet, rng: np.random.Generator) -> NearMiss:
    """Return a random valid call with one fault added.

    Faults: a misspelled tool; and of the arguments type, enum, const, minimum, maximum, their exclusive forms,
    minLength, maxLength, pattern, minItems, maxItems, uniqueItems, required, additionalProperties and anyOf.

    Args:
        tools: Whose calls are spoiled.
        rng: Where every choice comes from.

    Raises:
        NotSampleableError: As `sample_call`.
    """
    call = sample_call(tools, rng)
    parameters = tools.parameters(call.name)
    changes = [change for change in _changes(parameters, call.arguments) if isinstance(change[0], dict)]
    # The faults are drawn first, or a tool with many arguments would nearly always get a wrong type.
    faults = sorted({fault for _, fault, _ in changes})
    for index in rng.permutation(len(faults) + 1):
        if index == len(faults):
            return NearMiss(ToolCall(_misspelled(call.name, tools, rng), call.arguments), ErrorCode.UNKNOWN_TOOL, "")
        fitting = [change for change in changes if change[1] == faults[index]]
        for each in rng.permutation(len(fitting)):
            arguments, fault, path = fitting[each]
            wrong = ToolCall(call.name, arguments)
            found = [(violation.keyword, violation.path) for violation in tools.violations(wrong)]
            if found == [(fault, path)]:
                return NearMiss(wrong, fault, path)
    raise AssertionError("a tool can always be misspelled")


def _misspelled(name: str, tools: ToolSet, rng: np.random.Generator) -> str:
    position = int(rng.integers(len(name)))
    for wrong in (name[:position] + name[position + 1 :], name[: position + 1] + name[position:], f"{name}_"):
        if wrong and wrong not in tools:
            return wrong
    raise NotSampleableError(f"every misspelling of {name!r} that was tried is a tool as well")


def _changes(schema: JSON, value: JSON) -> Iterator[_Change]:
    """Yield changes of a valid value that may break one keyword each; what else they break is for the caller to see."""
    if not isinstance(schema, Mapping):
        return
    if "type" in schema:
        yield from ((stranger, "type", "") for stranger in _STRANGERS)
    if "anyOf" in schema:
        yield from ((stranger, "anyOf", "") for stranger in _STRANGERS)
    for keyword in ("enum", "const"):
        if keyword in schema:
            others = [f"{value}x", value[:-1]] if isinstance(value, str) else [7, None, "three"]
            yield from ((other, keyword, "") for other in others)
    if isinstance(value, str):
        yield from _text_changes(schema, value)
    elif isinstance(value, list):
        yield from _list_changes(schema, value)
    elif isinstance(value, dict):
        yield from _object_changes(schema, value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        for keyword, distance in (("minimum", -1), ("maximum", 1), ("exclusiveMinimum", 0), ("exclusiveMaximum", 0)):
            if keyword in schema:
                yield schema[keyword] + distance, keyword, ""


def _text_changes(schema: Mapping[str, JSON], value: str) -> Iterator[_Change]:
    if schema.get("minLength", 0) > 0:
        yield value[: int(schema["minLength"]) - 1], "minLength", ""
    if schema.get("maxLength", _MOST_ADDED) < _MOST_ADDED:
        yield value.ljust(int(schema["maxLength"]) + 1, "x"), "maxLength", ""
    if "pattern" in schema:
        yield from ((wrong, "pattern", "") for wrong in (f"{value}!", f"!{value}", value[:-1], value.swapcase()))


def _list_changes(schema: Mapping[str, JSON], value: list[JSON]) -> Iterator[_Change]:
    if schema.get("minItems", 0) > 0:
        yield value[: int(schema["minItems"]) - 1], "minItems", ""
    if value and schema.get("maxItems", _MOST_ADDED) < _MOST_ADDED:
        yield (value * (int(schema["maxItems"]) + 1))[: int(schema["maxItems"]) + 1], "maxItems", ""
    if value and schema.get("uniqueItems"):
        yield [*value, value[0]], "uniqueItems", ""
    for index, item in enumerate(value):
        for changed, keyword, path in _changes(schema.get("items"), item):
            yield [*value[:index], changed, *value[index + 1 :]], keyword, f"/{index}{path}"


def _object_changes(schema: Mapping[str, JSON], value: dict[str, JSON]) -> Iterator[_Change]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        yield {key: item for key, item in value.items() if key != name}, "required", ""
    if schema.get("additionalProperties") is False:
        yield from (({**value, f"{name}_": 7}, "additionalProperties", "") for name in [*properties, "more"])
    for name, item in value.items():
        step = name.replace("~", "~0").replace("/", "~1")
        for changed, keyword, path in _changes(properties.get(name), item):
            yield {**value, name: changed}, keyword, f"/{step}{path}"

"""Flat schemas, as nearly every tool has one: a quick test that lets most calls pass without a full validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from awpo_env.patterns import BoundedPattern, TooMuchWork
from awpo_env.schema_rules import is_integer
from awpo_env.types import JSON

_Test = Callable[[Any], bool]

_ANNOTATIONS = {"title", "description", "default", "examples"}
_BOUNDS: Mapping[str, Callable[[Any], _Test]] = {
    "minimum": lambda least: lambda number: number >= least,
    "maximum": lambda most: lambda number: number <= most,
}
_KEYWORDS: Mapping[str, Mapping[str, Callable[[Any], _Test]]] = {
    "boolean": {},
    "integer": _BOUNDS,
    "number": _BOUNDS,
    "string": {
        "enum": lambda values: [value for value in values if isinstance(value, str)].__contains__,
        "pattern": lambda pattern: BoundedPattern(pattern).matches,
        "minLength": lambda least: lambda text: len(text) >= least,
        "maxLength": lambda most: lambda text: len(text) <= most,
    },
}
_TYPES: Mapping[str, _Test] = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": is_integer,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
}


def flat_test(schema: Mapping[str, JSON]) -> Callable[[Mapping[str, JSON]], bool]:
    """Return a function that is true only of objects that `schema` allows.

    It says so of all of them where the properties are strings, numbers and booleans with the usual keywords, and no
    others are given. Where it says no, the schema itself has to be asked.

    Args:
        schema: A JSON Schema for objects that `compile_schema` takes.
    """
    is_flat = schema.keys() <= _ANNOTATIONS | {"type", "properties", "required", "additionalProperties"}
    required = frozenset(schema.get("required", ()))
    tests = {name: _tests_of(part) for name, part in schema.get("properties", {}).items()} if is_flat else {}

    def fits(arguments: Mapping[str, JSON]) -> bool:
        try:
            return (
                is_flat
                and arguments.keys() >= required
                and all(test(value) for name, value in arguments.items() for test in tests.get(name, _NEVER))
            )
        except TooMuchWork:
            return False

    return fits


_NEVER: tuple[_Test, ...] = (lambda value: False,)


def _tests_of(schema: JSON) -> tuple[_Test, ...]:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if not isinstance(kind, str) or kind not in _KEYWORDS:
        return _NEVER
    keywords = schema.keys() - _ANNOTATIONS - {"type"}
    if not keywords <= _KEYWORDS[kind].keys():
        return _NEVER
    return _TYPES[kind], *(_KEYWORDS[kind][keyword](schema[keyword]) for keyword in sorted(keywords))

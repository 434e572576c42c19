"""Random schema-valid values, so that an action space can be sampled."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from awpo_env.errors import UsageError
from awpo_env.types import JSON

_WORDS = ("alpha", "bravo", "cedar", "delta", "ember", "fjord")
_WIDEST_RANGE = 1000
_ANNOTATIONS = {"title", "description", "default", "deprecated", "$comment", "$schema", "$id", "$defs"}
_KEYWORDS = {
    *("type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
}


class NotSampleableError(UsageError):
    """The schema uses a keyword outside the subset that can be sampled; the message names it."""


def sample_value(schema: Mapping[str, JSON], rng: np.random.Generator) -> JSON:
    """Return a random value that is valid under `schema`.

    The subset: type, properties, required, items, minItems, maxItems, minimum, maximum, their exclusive forms,
    minLength, maxLength; anyOf on its own (a branch is drawn); and anything that carries `const`, `enum` or `examples`,
    whose values are taken at their word.

    Args:
        schema: JSON Schema Draft 2020-12.
        rng: Where every choice comes from.

    Raises:
        NotSampleableError: The schema is outside that subset.
    """
    if "const" in schema:
        return schema["const"]
    for keyword in ("enum", "examples"):
        if schema.get(keyword):
            return schema[keyword][int(rng.integers(len(schema[keyword])))]
    beyond = schema.keys() - _ANNOTATIONS - _KEYWORDS
    if beyond == {"anyOf"} and not schema.keys() & _KEYWORDS:
        return sample_value(schema["anyOf"][int(rng.integers(len(schema["anyOf"])))], rng)
    if beyond:
        raise NotSampleableError(f"cannot sample a schema with {min(beyond)!r}; give it 'examples'")
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[int(rng.integers(len(kind)))]
    if kind not in _SAMPLERS:
        raise NotSampleableError(f"cannot sample a schema of type {kind!r}")
    return _SAMPLERS[kind](schema, rng)


def _object(schema: Mapping[str, JSON], rng: np.random.Generator) -> JSON:
    required, properties = schema.get("required", ()), schema.get("properties", {})
    if unknown := set(required) - set(properties):
        raise NotSampleableError(f"cannot sample the required property {min(unknown)!r}; declare it in 'properties'")
    return {
        name: sample_value(part, rng) for name, part in properties.items() if name in required or rng.random() < 0.5
    }


def _array(schema: Mapping[str, JSON], rng: np.random.Generator) -> JSON:
    low = schema.get("minItems", 0)
    length = int(rng.integers(low, min(schema.get("maxItems", low + 2), low + 2) + 1))
    return [sample_value(schema.get("items", {"type": "string"}), rng) for _ in range(length)]


def _string(schema: Mapping[str, JSON], rng: np.random.Generator) -> JSON:
    text = _WORDS[int(rng.integers(len(_WORDS)))]
    text = text.ljust(schema.get("minLength", 0), "x")
    return text[: schema.get("maxLength", len(text))]


def _bounds(schema: Mapping[str, JSON]) -> tuple[float, float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -_WIDEST_RANGE if "maximum" not in schema else None))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        low = high - _WIDEST_RANGE
    if high is None:
        high = low + _WIDEST_RANGE
    return low, high


def _integer(schema: Mapping[str, JSON], rng: np.random.Generator) -> JSON:
    low, high = _bounds(schema)
    first = int(np.ceil(low)) + (low == schema.get("exclusiveMinimum"))
    last = int(np.floor(high)) - (high == schema.get("exclusiveMaximum"))
    return int(rng.integers(first, last + 1))


def _number(schema: Mapping[str, JSON], rng: np.random.Generator) -> JSON:
    low, high = _bounds(schema)
    value = round(low + (high - low) * float(rng.uniform(0.05, 0.95)), 2)
    return value if low < value < high else low + (high - low) / 2


_SAMPLERS = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": lambda schema, rng: bool(rng.integers(2)),
    "null": lambda schema, rng: None,
}

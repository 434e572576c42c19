"""Random schema-valid values and calls, so that an action space can be sampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from awpo_env.errors import UsageError
from awpo_env.frozen import thaw
from awpo_env.schema import ToolSet
from awpo_env.types import JSON, ToolCall

_WORDS = ("alpha", "bravo", "cedar", "delta", "ember", "fjord")
_WIDEST_RANGE = 1000
_LONGEST_STRING = 10_000
_MOST_VALUES = 10_000  # in one sample; nested minItems multiply
_MOST_TRIES = 20
_ANNOTATIONS = {"title", "description", "default", "deprecated", "$comment", "$schema", "$id", "$defs"}
_KEYWORDS = {
    *("type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
}


class NotSampleableError(UsageError):
    """The schema is outside the subset that can be sampled; the message says why."""


class _Plan(NamedTuple):
    """How a schema is sampled, and how many values that draws at most."""

    draw: Callable[[np.random.Generator], JSON]
    size: int


def sample_value(schema: Mapping[str, JSON], rng: np.random.Generator) -> JSON:
    """Return a random value that is valid under `schema`.

    The subset: type, properties, required, additionalProperties, items, minItems, maxItems, minimum, maximum, their
    exclusive forms, minLength, maxLength; anyOf on its own (a branch is drawn); and anything that carries `const`,
    `enum` or `examples`, whose values are taken at their word. A schema outside is refused whatever `rng` would draw.

    Args:
        schema: JSON Schema Draft 2020-12.
        rng: Where every choice comes from.

    Raises:
        NotSampleableError: The schema is outside that subset, allows nothing, or asks for too much.
    """
    return _plan(schema).draw(rng)


def sample_call(tools: ToolSet, rng: np.random.Generator) -> ToolCall:
    """Return a random valid call of one of the tools.

    Raises:
        NotSampleableError: The schema of the drawn tool cannot be sampled, or its examples are invalid.
    """
    names = list(tools)
    name = names[int(rng.integers(len(names)))]
    try:
        plan = _plan(tools.parameters(name))
    except NotSampleableError as error:
        raise NotSampleableError(f"tool {name!r}: {error}") from None
    for _ in range(_MOST_TRIES):
        call = ToolCall(name, plan.draw(rng))
        violations = tools.violations(call)
        if not violations:
            return call
    raise NotSampleableError(f"sampled calls of {name!r} are invalid, check its 'examples': {violations[0].message}")


def _plan(schema: JSON) -> _Plan:
    if not isinstance(schema, Mapping):
        raise NotSampleableError(f"cannot sample the schema {str(schema).lower()}, which says nothing of a value")
    if "const" in schema:
        return _Plan(lambda rng: thaw(schema["const"]), 1)
    for keyword in ("enum", "examples"):
        if schema.get(keyword):
            return _Plan(lambda rng, values=schema[keyword]: thaw(_choice(values, rng)), 1)
    beyond = schema.keys() - _ANNOTATIONS - _KEYWORDS
    if beyond == {"anyOf"} and not schema.keys() & _KEYWORDS:
        branches = [_plan(branch) for branch in schema["anyOf"]]
        return _Plan(lambda rng: _choice(branches, rng).draw(rng), max(branch.size for branch in branches))
    if beyond:
        raise NotSampleableError(f"cannot sample a schema with {min(beyond)!r}; give it 'examples'")
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if unknown := [kind for kind in kinds if kind not in _PLANS]:
        raise NotSampleableError(f"cannot sample a schema of type {unknown[0]!r}; name a type, or give it 'examples'")
    plans = [_PLANS[kind](schema) for kind in kinds]
    size = max(plan.size for plan in plans)
    if size > _MOST_VALUES:
        raise NotSampleableError(f"cannot sample a schema that asks for up to {size} values; expected {_MOST_VALUES}")
    return plans[0] if len(plans) == 1 else _Plan(lambda rng: _choice(plans, rng).draw(rng), size)


def _choice(values: list, rng: np.random.Generator) -> JSON:
    return values[int(rng.integers(len(values)))]


def _object(schema: Mapping[str, JSON]) -> _Plan:
    required, properties = schema.get("required", ()), schema.get("properties", {})
    if unknown := set(required) - set(properties):
        raise NotSampleableError(f"cannot sample the required property {min(unknown)!r}; declare it in 'properties'")
    plans = {name: _plan(part) for name, part in properties.items() if part is not False or name in required}

    def draw(rng: np.random.Generator) -> JSON:
        return {name: plan.draw(rng) for name, plan in plans.items() if name in required or rng.random() < 0.5}

    return _Plan(draw, 1 + sum(plan.size for plan in plans.values()))


def _array(schema: Mapping[str, JSON]) -> _Plan:
    low = int(schema.get("minItems", 0))
    high = int(min(schema.get("maxItems", low + 2), low + 2))
    _require_room("items", low, high)
    if schema.get("items") is False:
        _require_room("items", low, 0)
        return _Plan(lambda rng: [], 1)
    item = _plan(schema.get("items", {"type": "string"})) if high else _Plan(lambda rng: None, 0)
    return _Plan(
        lambda rng: [item.draw(rng) for _ in range(int(rng.integers(low, high + 1)))],
        1 + high * item.size,
    )


def _string(schema: Mapping[str, JSON]) -> _Plan:
    low, high = int(schema.get("minLength", 0)), int(schema.get("maxLength", _LONGEST_STRING))
    _require_room("characters", low, min(high, _LONGEST_STRING))
    return _Plan(lambda rng: _choice(_WORDS, rng).ljust(low, "x")[:high], 1)


def _bounds(schema: Mapping[str, JSON]) -> tuple[float, float]:
    """Return the bounds, exclusive or not, with the missing ones not too far away."""
    lows = [schema[keyword] for keyword in ("minimum", "exclusiveMinimum") if keyword in schema]
    highs = [schema[keyword] for keyword in ("maximum", "exclusiveMaximum") if keyword in schema]
    if not lows:
        lows = [min(highs) - _WIDEST_RANGE if highs else -_WIDEST_RANGE]
    return max(lows), min(highs) if highs else max(lows) + _WIDEST_RANGE


def _integer(schema: Mapping[str, JSON]) -> _Plan:
    low, high = _bounds(schema)
    first = max(math.ceil(low) + (low == schema.get("exclusiveMinimum")), -(2**63))
    last = min(math.floor(high) - (high == schema.get("exclusiveMaximum")), 2**63 - 1)
    _require_room("an integer", first, last)
    return _Plan(lambda rng: int(rng.integers(first, last, endpoint=True)), 1)


def _number(schema: Mapping[str, JSON]) -> _Plan:
    low, high = _bounds(schema)
    _require_room("a number", low, high)
    is_open = low == schema.get("exclusiveMinimum") or high == schema.get("exclusiveMaximum")
    middle = low / 2 + high / 2
    if is_open and not low < middle < high:
        _require_room("a number", 1, 0)

    def draw(rng: np.random.Generator) -> JSON:
        share = float(rng.uniform(0.05, 0.95))
        value = round(low * (1 - share) + high * share, 2)
        return value if low < value < high else middle

    return _Plan(draw, 1)


def _require_room(what: str, low: float, high: float) -> None:
    if low > high:
        raise NotSampleableError(f"cannot sample {what} where at least {low} and at most {high} is asked for")


_PLANS: dict[JSON, Callable[[Mapping[str, JSON]], _Plan]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": lambda schema: _Plan(lambda rng: bool(rng.integers(2)), 1),
    "null": lambda schema: _Plan(lambda rng: None, 1),
}

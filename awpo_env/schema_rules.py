"""Which JSON Schemas a tool may have: Draft 2020-12, complete in itself, checked against any call in bounded time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from jsonschema_specifications import REGISTRY
from referencing import Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from awpo_env.patterns import BoundedPattern, TooMuchWork
from awpo_env.types import JSON

_MOST_APPLIED = 256  # schemas that may speak about one and the same value
_MOST_STEPS = 20_000  # keywords applied in one call
_REFERENCES = ("$ref", "$dynamicRef")
_ONE_BESIDE = ("not", "if", "then", "else")
_MANY_BESIDE = ("allOf", "anyOf", "oneOf")


def is_integer(value: JSON) -> bool:
    """Whether `value` is an integer as JSON Schema has it (3.0 is one), of at most 64 bits as backends need it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -(2**63) <= value < 2**63 and value == int(value)


def compile_schema(schema: Mapping[str, JSON]) -> Draft202012Validator:
    """Return the validator of a tool's arguments; use it inside `bounded`.

    It says what `jsonschema` says, except that integers have at most 64 bits, that no reference leaves the schema, and
    that it ends soon.

    Args:
        schema: JSON Schema Draft 2020-12.

    Raises:
        ValueError: The schema is none, a reference leads nowhere or in a circle, or a pattern cannot be matched in
            bounded time. The message is a clause that says which.
    """
    try:
        Draft202012Validator.check_schema(schema)
        # jsonschema would go over to the plain validator of the dialect wherever "$schema" stands.
        plain = {keyword: value for keyword, value in schema.items() if keyword != "$schema"}
        root = DRAFT202012.create_resource(plain)
        registry = REGISTRY.with_resource(root.id() or "", root).crawl()
        _Rules().walk(root, registry.resolver_with_root(root))
    except SchemaError as error:
        raise ValueError(f"is no valid Draft 2020-12 schema: {error.message[:200]}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    return _Validator(plain, registry=registry)


class _Rules:
    """Walks through a schema and everything it refers to."""

    def __init__(self) -> None:
        self._num_applied: dict[int, int | None] = {}  # by identity; None while it is being counted
        self._seen: set[int] = set()

    def walk(self, resource: Resource[Any], resolver: Any) -> None:
        """Raise ValueError for what a tool's schema must not do."""
        schema = resource.contents
        if not isinstance(schema, Mapping) or id(schema) in self._seen:
            return
        self._seen.add(id(schema))
        if "$schema" in schema and schema["$schema"] != Draft202012Validator.META_SCHEMA["$schema"]:
            raise ValueError(f"has a part of another dialect, {str(schema['$schema'])[:80]!r}")
        for pattern in [schema["pattern"]] if "pattern" in schema else []:
            _compiled(pattern)
        for pattern in schema.get("patternProperties", ()):
            if not _compiled(pattern).is_quick:
                raise ValueError(f"has a pattern of names, {pattern[:80]!r}, that cannot be matched in bounded time")
        self._count_applied(schema, resolver)
        for target, at_target in _targets(schema, resolver):
            self.walk(DRAFT202012.create_resource(target), at_target)
        for part in resource.subresources():
            self.walk(part, resolver.in_subresource(part))

    def _count_applied(self, schema: JSON, resolver: Any) -> int:
        """Return how many schemas speak about a value to which `schema` is applied."""
        if not isinstance(schema, Mapping):
            return 1
        if id(schema) in self._num_applied:
            known = self._num_applied[id(schema)]
            if known is None:
                raise ValueError("refers to itself without end")
            return known
        self._num_applied[id(schema)] = None
        beside = list(_targets(schema, resolver))
        parts = [schema[keyword] for keyword in _ONE_BESIDE if keyword in schema]
        parts += [part for keyword in _MANY_BESIDE for part in schema.get(keyword, ())]
        parts += schema.get("dependentSchemas", {}).values()
        beside += [(part, resolver.in_subresource(DRAFT202012.create_resource(part))) for part in parts]
        total = 1 + sum(self._count_applied(part, at_part) for part, at_part in beside)
        if total > _MOST_APPLIED:
            raise ValueError(f"applies more than {_MOST_APPLIED} schemas to one value")
        self._num_applied[id(schema)] = total
        return total


def _targets(schema: Mapping[str, JSON], resolver: Any) -> Iterator[tuple[JSON, Any]]:
    for keyword in _REFERENCES:
        if keyword in schema:
            try:
                found = resolver.lookup(schema[keyword])
            except Unresolvable:
                raise ValueError(f"has no part {schema[keyword][:80]!r}; references must stay within it") from None
            yield found.contents, found.resolver


class TooLargeError(Exception):
    """A value is too large to be checked against a schema."""


_steps_left: ContextVar[list[int]] = ContextVar("steps_left")


def bounded(validator: Draft202012Validator, value: JSON, most: int) -> list[ValidationError]:
    """Return the first violations of a value, at most `most`.

    Raises:
        TooLargeError: Finding them would take too long.
    """
    token = _steps_left.set([_MOST_STEPS])
    try:
        return [error for error, _ in zip(validator.iter_errors(value), range(most), strict=False)]
    except (TooMuchWork, RecursionError):
        raise TooLargeError from None
    finally:
        _steps_left.reset(token)


def _counted(keyword: Callable[..., Any]) -> Callable[..., Any]:
    def apply(validator: Any, argument: JSON, instance: JSON, schema: JSON) -> Any:
        left = _steps_left.get()
        left[0] -= 1
        if left[0] < 0:
            raise TooMuchWork
        return keyword(validator, argument, instance, schema)

    return apply


_patterns: dict[str, BoundedPattern] = {}


def _compiled(pattern: str) -> BoundedPattern:
    if pattern not in _patterns:
        try:
            _patterns[pattern] = BoundedPattern(pattern)
        except ValueError as error:
            raise ValueError(f"has the pattern {pattern[:80]!r}, which {error}") from None
    return _patterns[pattern]


def _match(validator: Any, pattern: str, instance: JSON, schema: JSON) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _compiled(pattern).matches(instance):
        yield ValidationError("does not match")


def _differ(validator: Any, is_wanted: bool, instance: JSON, schema: JSON) -> Iterator[ValidationError]:
    # jsonschema compares every pair where items cannot be sorted.
    if is_wanted and isinstance(instance, list) and len(set(map(_frozen, instance))) < len(instance):
        yield ValidationError("has equal items")


def _frozen(value: JSON) -> Any:
    """Return something that is hashable, and equal exactly when the JSON values are: 1 is 1.0 but not true."""
    if isinstance(value, dict):
        return frozenset((name, _frozen(item)) for name, item in value.items())
    return tuple(map(_frozen, value)) if isinstance(value, list) else (isinstance(value, bool), value)


_Validator = extend(
    Draft202012Validator,
    {name: _counted(keyword) for name, keyword in Draft202012Validator.VALIDATORS.items()}
    | {"pattern": _counted(_match), "uniqueItems": _counted(_differ)},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda checker, value: is_integer(value)),
)

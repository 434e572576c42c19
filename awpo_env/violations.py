"""What is wrong with the arguments of a call: every violation with its place, what was expected, the nearest name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from jsonschema.exceptions import ValidationError

from awpo_env.errors import closest
from awpo_env.types import JSON

_LONGEST_QUOTE = 80  # characters of a model's value quoted back to it
_NAMED_ARGUMENTS = 3  # unknown arguments named in one message
_MOST_CANDIDATES = 1_000  # enum values among which the nearest one is looked for
_SHOWN_CANDIDATES = 50
_TELLING = ("type", "required", "pattern", "const")  # keywords whose value says by itself what would be right


@dataclass(frozen=True, slots=True)
class Violation:
    """One keyword of a schema that one value breaks.

    Attributes:
        path: Where, as a JSON Pointer into the arguments.
        keyword: The keyword of the schema; empty where a schema allows nothing at all.
        message: What is wrong, the place included.
        expected: What would be right, where the keyword says it in one value.
        did_you_mean: The nearest name or enum value, where one is near.
    """

    path: str
    keyword: str
    message: str
    expected: JSON = None
    did_you_mean: str | None = None

    def details(self) -> dict[str, JSON]:
        """Return what an error object shows of it; what is None is left out."""
        shown = {"path": self.path, "expected": self.expected, "did_you_mean": self.did_you_mean}
        return {"message": self.message} | {name: value for name, value in shown.items() if value is not None}


def read_violations(errors: Iterable[ValidationError]) -> tuple[Violation, ...]:
    """Return what `jsonschema` found, each thing once, by path and then by keyword."""
    # jsonschema reports every absent name on its own; here one violation names them all.
    violations = map(_read, sorted(errors, key=_order))
    return tuple({(each.path, each.keyword, each.message): each for each in violations}.values())


def quote(value: JSON) -> str:
    """Return a value as it is shown to whoever wrote it, cut to a length that fits into a sentence."""
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "..."


def _order(error: ValidationError) -> tuple[list[tuple[bool, int | str]], str]:
    return [(isinstance(step, str), step) for step in error.absolute_path], str(error.validator)


def _read(error: ValidationError) -> Violation:
    path = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in error.absolute_path)
    expected, suggestion = _hints(error)
    message = f"{path}: {_describe(error)}" if path else _describe(error)
    return Violation(path, error.validator or "", message, expected, suggestion)


def _describe(error: ValidationError) -> str:
    keyword, expected, value = error.validator, error.validator_value, error.instance
    if keyword == "required":
        return f"missing {', '.join(name for name in expected if name not in value)}"
    if keyword == "additionalProperties" and expected is False:
        return f"unknown argument {', '.join(map(quote, _unknown_names(error)[:_NAMED_ARGUMENTS]))}"
    if keyword == "type":
        return f"{quote(value)} is not of type {expected}"
    if keyword == "enum":
        return f"{quote(value)} is not one of {quote(expected)}"
    if keyword is None:
        return "nothing is allowed here"
    return f"{quote(value)} violates {keyword} {quote(expected)}"


def _hints(error: ValidationError) -> tuple[JSON, str | None]:
    """Return what was expected, and the nearest thing to what was written."""
    keyword, expected, value = error.validator, error.validator_value, error.instance
    if keyword == "enum":
        names = [each for each in expected[:_MOST_CANDIDATES] if isinstance(each, str)]
        return expected[:_SHOWN_CANDIDATES], closest(value, names) if isinstance(value, str) else None
    if keyword == "additionalProperties" and expected is False:
        known = list(error.schema.get("properties", ()))
        return known, closest(_unknown_names(error)[0], known)
    return (expected, None) if keyword in _TELLING else (None, None)


def _unknown_names(error: ValidationError) -> list[str]:
    known, patterns = error.schema.get("properties", ()), error.schema.get("patternProperties", ())
    unknown = (name for name in error.instance if name not in known)
    return sorted(name for name in unknown if not any(re.search(pattern, name) for pattern in patterns))

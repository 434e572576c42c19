"""Tool declarations: checked once, compiled once, and used to validate every call."""

from __future__ import annotations

import json
import marshal
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend

from awpo_env.errors import SuiteError, closest
from awpo_env.types import JSON, ErrorCode, ToolCall

_CALLABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_LONGEST_QUOTE = 80  # characters of a model's value quoted back to it
_NAMED_PROBLEMS = 3  # violations spelled out in one message
_MOST_PROBLEMS = 20  # violations looked for; a list of 100,000 wrong items is one mistake, not 100,000


def is_integer(value: JSON) -> bool:
    """Whether `value` is an integer as JSON Schema has it (3.0 is one), of at most 64 bits as backends need it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -(2**63) <= value < 2**63 and value == int(value)


def integral(value: JSON) -> JSON:
    """Return `value` with every float such as 3.0 turned to int, at any depth.

    JSON makes no difference between 3 and 3.0 and JSON Schema counts both as integers; a Python backend that asked for
    an integer must not meet a float.
    """
    if isinstance(value, float):
        return int(value) if is_integer(value) else value
    if isinstance(value, dict):
        return {name: integral(item) for name, item in value.items()}
    return [integral(item) for item in value] if isinstance(value, list) else value


_TYPES = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda checker, value: is_integer(value))
_Validator = extend(Draft202012Validator, type_checker=_TYPES)


def error_object(code: ErrorCode, message: str, **details: JSON) -> dict[str, JSON]:
    """Return the observation ``{"error": {...}}`` a model reads after a mistake.

    Args:
        code: The stable error code.
        message: What is wrong.
        **details: `path` (JSON Pointer), `expected`, `did_you_mean`; None is left out.
    """
    shown = {name: value for name, value in details.items() if value is not None}
    return {"error": {"code": str(code), "message": message, **shown}}


class ToolSet:
    """The tools of a suite: declarations in the canonical OpenAI shape, each with its compiled validator. Immutable.

    Args:
        declarations: ``{"type": "function", "function": {"name", "description", "parameters"}}``, `parameters` being
            JSON Schema Draft 2020-12 for an object.

    Raises:
        SuiteError: A declaration is malformed; the message names the tool and the problem.
    """

    def __init__(self, declarations: Iterable[Mapping[str, JSON]]) -> None:
        self.declarations: dict[str, dict[str, JSON]] = {}
        self._validators: dict[str, Draft202012Validator] = {}
        for declaration in declarations:
            name = _checked(declaration)
            if name in self.declarations:
                raise SuiteError(f"tool {name!r} is declared twice; names must be unique within a suite")
            self.declarations[name] = json.loads(json.dumps(declaration))
            self._validators[name] = _Validator(self.parameters(name))
        self._image = lru_cache(maxsize=64)(self._make_image)

    def __iter__(self) -> Iterator[str]:
        return iter(self.declarations)

    def __contains__(self, name: object) -> bool:
        return name in self.declarations

    def __len__(self) -> int:
        return len(self.declarations)

    def __reduce__(self) -> tuple[type[ToolSet], tuple[list[dict[str, JSON]]]]:
        return ToolSet, (list(self.declarations.values()),)  # compiled validators cannot be pickled

    def __deepcopy__(self, memo: object) -> ToolSet:
        return self

    def copies(self, names: Sequence[str]) -> tuple[dict[str, JSON], ...]:
        """Return the declarations of some tools; they are the caller's to change."""
        return marshal.loads(self._image(tuple(names)))  # the fastest deep copy of JSON there is

    def _make_image(self, names: tuple[str, ...]) -> bytes:
        return marshal.dumps(tuple(self.declarations[name] for name in names))

    def parameters(self, name: str) -> dict[str, JSON]:
        """Return the JSON Schema of a tool's arguments."""
        return self.declarations[name]["function"]["parameters"]

    def check(self, call: ToolCall, available: Sequence[str]) -> dict[str, JSON] | None:
        """Return the error object of an impossible call, or None when it may be run.

        Args:
            call: What the model asks for.
            available: Names of the tools the model has been shown; others do not exist for it.
        """
        if call.name not in available:
            return error_object(
                ErrorCode.UNKNOWN_TOOL,
                f"there is no tool {_quote(call.name)}",
                expected=list(available),
                did_you_mean=closest(call.name, available),
            )
        problems = list(islice(self._validators[call.name].iter_errors(call.arguments), _MOST_PROBLEMS))
        return _invalid_arguments(sorted(problems, key=_order)) if problems else None


def _checked(declaration: JSON) -> str:
    function = declaration.get("function") if isinstance(declaration, Mapping) else None
    if not isinstance(function, Mapping) or declaration.get("type") != "function":
        raise SuiteError(
            f"tool declaration {_quote(declaration)} is not of the form "
            '{"type": "function", "function": {"name", "description", "parameters"}}'
        )
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not _CALLABLE_NAME.fullmatch(name):
        raise SuiteError(
            f"tool name {_quote(name)} is refused; expected 1 to 64 letters, digits, '_' or '-', no digit first"
        )
    if not isinstance(function.get("description"), str) or not function["description"].strip():
        raise SuiteError(f"tool {name!r} has no description; a model chooses tools by it, so write one sentence")
    if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
        raise SuiteError(f'tool {name!r}: \'parameters\' must be a JSON Schema with "type": "object"')
    try:
        Draft202012Validator.check_schema(parameters)
    except SchemaError as error:
        raise SuiteError(f"tool {name!r}: 'parameters' is no valid Draft 2020-12 schema: {error.message}") from None
    return name


def _quote(value: JSON) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "..."


def _order(error: ValidationError) -> tuple[list[tuple[bool, int | str]], str]:
    return [(isinstance(step, str), step) for step in error.absolute_path], str(error.validator)


def _pointer(error: ValidationError) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in error.absolute_path)


def _describe(error: ValidationError) -> str:
    keyword, expected, value = error.validator, error.validator_value, error.instance
    where = f"{_pointer(error)}: " if error.absolute_path else ""
    if keyword == "required":
        return f"{where}missing {', '.join(name for name in expected if name not in value)}"
    if keyword == "additionalProperties" and expected is False:
        extra = _unknown_names(error)
        return f"{where}unknown argument {', '.join(_quote(name) for name in extra[:_NAMED_PROBLEMS])}"
    if keyword == "type":
        return f"{where}{_quote(value)} is not of type {expected}"
    if keyword == "enum":
        return f"{where}{_quote(value)} is not one of {_quote(expected)}"
    if keyword is None:
        return f"{where}nothing is allowed here"
    return f"{where}{_quote(value)} violates {keyword} {_quote(expected)}"


def _unknown_names(error: ValidationError) -> list[str]:
    known, patterns = error.schema.get("properties", ()), error.schema.get("patternProperties", ())
    return [name for name in error.instance if name not in known and not any(re.search(p, name) for p in patterns)]


def _invalid_arguments(problems: list[ValidationError]) -> dict[str, JSON]:
    first = problems[0]
    # jsonschema reports every absent name on its own, each of them with the same description.
    descriptions = list(dict.fromkeys(_describe(problem) for problem in problems))
    message = "; ".join(descriptions[:_NAMED_PROBLEMS])
    if len(descriptions) > _NAMED_PROBLEMS:
        message += "; and more"
    expected = suggestion = None
    if first.validator == "enum":
        expected = first.validator_value
        if isinstance(first.instance, str):
            suggestion = closest(first.instance, [str(value) for value in expected])
    elif first.validator == "additionalProperties" and first.validator_value is False:
        expected = list(first.schema.get("properties", ()))
        suggestion = closest(_unknown_names(first)[0], expected)
    elif first.validator in ("type", "required", "pattern", "const"):
        expected = first.validator_value
    return error_object(
        ErrorCode.INVALID_ARGUMENTS, message, path=_pointer(first), expected=expected, did_you_mean=suggestion
    )

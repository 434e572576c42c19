"""Tool declarations: checked once, compiled once, and used to validate every call."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from awpo_env.errors import SuiteError, closest
from awpo_env.types import JSON, ErrorCode, ToolCall

_CALLABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_LONGEST_QUOTE = 80  # characters of a model's value quoted back to it
_NAMED_PROBLEMS = 3  # violations spelled out in one message; the rest is counted


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
    """The tools of a suite: declarations in the canonical OpenAI shape, each with its compiled validator.

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
            name, parameters = _checked(declaration)
            if name in self.declarations:
                raise SuiteError(f"tool {name!r} is declared twice; names must be unique within a suite")
            self.declarations[name] = dict(declaration)
            self._validators[name] = Draft202012Validator(parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self.declarations)

    def __contains__(self, name: object) -> bool:
        return name in self.declarations

    def __len__(self) -> int:
        return len(self.declarations)

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
        problems = sorted(self._validators[call.name].iter_errors(call.arguments), key=_order)
        return _invalid_arguments(problems) if problems else None

    def integral(self, call: ToolCall) -> ToolCall:
        """Return the valid `call` with floats such as 3.0 turned to int where the schema says integer.

        JSON Schema counts 3.0 as an integer; a Python backend must not meet a float there.
        """
        return ToolCall(call.name, _integral(call.arguments, self.parameters(call.name)))


def _checked(declaration: Mapping[str, JSON]) -> tuple[str, dict[str, JSON]]:
    function = declaration.get("function") if isinstance(declaration, Mapping) else None
    if not isinstance(function, Mapping) or declaration.get("type") != "function":
        raise SuiteError(
            f"tool declaration {_quote(declaration)} is not of the form "
            '{"type": "function", "function": {"name", "description", "parameters"}}'
        )
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not _CALLABLE_NAME.fullmatch(name):
        raise SuiteError(f"tool name {_quote(name)} must be 1 to 64 letters, digits, '_' or '-', not starting with a digit")
    if not isinstance(function.get("description"), str) or not function["description"].strip():
        raise SuiteError(f"tool {name!r} has no description; a model chooses tools by it, so write one sentence")
    if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
        raise SuiteError(f"tool {name!r}: 'parameters' must be a JSON Schema with \"type\": \"object\"")
    try:
        Draft202012Validator.check_schema(parameters)
    except SchemaError as error:
        raise SuiteError(f"tool {name!r}: 'parameters' is no valid Draft 2020-12 schema: {error.message}") from None
    return name, dict(parameters)


def _quote(value: JSON) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "..."


def _order(error: ValidationError) -> tuple[list[str], str]:
    return [str(step) for step in error.absolute_path], str(error.validator)


def _pointer(error: ValidationError) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in error.absolute_path)


def _describe(error: ValidationError) -> str:
    keyword, expected, value = error.validator, error.validator_value, error.instance
    if keyword == "required":
        absent = [name for name in expected if name not in value]
        return f"missing {', '.join(absent)}"
    if keyword == "additionalProperties":
        known = list(error.schema.get("properties", ()))
        extra = [name for name in value if name not in known]
        return f"unknown argument {', '.join(_quote(name) for name in extra[:_NAMED_PROBLEMS])}"
    where = f"{_pointer(error)}: " if error.absolute_path else ""
    if keyword == "type":
        return f"{where}{_quote(value)} is not of type {expected}"
    if keyword == "enum":
        return f"{where}{_quote(value)} is not one of {expected}"
    return f"{where}{_quote(value)} violates {keyword} {_quote(expected)}"


def _invalid_arguments(problems: list[ValidationError]) -> dict[str, JSON]:
    first = problems[0]
    message = "; ".join(_describe(problem) for problem in problems[:_NAMED_PROBLEMS])
    if len(problems) > _NAMED_PROBLEMS:
        message += f"; and {len(problems) - _NAMED_PROBLEMS} more"
    expected = suggestion = None
    if first.validator == "enum":
        expected = first.validator_value
        suggestion = closest(str(first.instance)[:_LONGEST_QUOTE], [str(value) for value in expected])
    elif first.validator == "additionalProperties":
        expected = list(first.schema.get("properties", ()))
        extra = next(name for name in first.instance if name not in expected)
        suggestion = closest(extra, expected)
    elif first.validator in ("type", "required", "pattern"):
        expected = first.validator_value
    return error_object(
        ErrorCode.INVALID_ARGUMENTS, message, path=_pointer(first), expected=expected, did_you_mean=suggestion
    )


def _integral(value: JSON, schema: JSON) -> JSON:
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, float):
        return int(value) if schema.get("type") == "integer" else value
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return {name: _integral(item, properties.get(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_integral(item, schema.get("items")) for item in value]
    return value

"""Tool declarations: checked once, compiled once, and used to validate every call."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from jsonschema import Draft202012Validator

from awpo_env.errors import SuiteError, closest
from awpo_env.flat_schema import flat_test
from awpo_env.frozen import FrozenList, freeze
from awpo_env.schema_rules import TooLargeError, bounded, compile_schema, is_integer
from awpo_env.types import JSON, ErrorCode, ToolCall
from awpo_env.violations import Violation, quote, read_violations

_CALLABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_ERROR = re.compile(r'\{"error":(?! ?(?:null|false|""|0\b|\[\]|\{\}))')
_MOST_VIOLATIONS = 10  # told at once; a list of 100,000 wrong items is one mistake, not 100,000


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


def error_object(code: ErrorCode, message: str, **details: JSON) -> dict[str, JSON]:
    """Return the observation ``{"error": {...}}`` a model reads after a mistake.

    Args:
        code: The stable error code.
        message: What is wrong.
        **details: `path` (JSON Pointer), `expected`, `did_you_mean`, `also` (further mistakes); None is left out.
    """
    shown = {name: value for name, value in details.items() if value is not None}
    return {"error": {"code": str(code), "message": message, **shown}}


def says_error(content: str) -> bool:
    """Whether a tool's message is an error: one of `error_object`, or a server's own; by its beginning, however long.

    >>> [says_error(text) for text in ('{"error": "gone"}', '{"error": null, "price": 3}', "error")]
    [True, False, False]
    """
    return _ERROR.match(content) is not None


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
        self._fits: dict[str, _Fits] = {}
        for declaration in declarations:
            name = _checked_name(declaration)
            if name in self.declarations:
                raise SuiteError(f"tool {name!r} is declared twice; names must be unique within a suite")
            try:
                self.declarations[name], self._validators[name], self._fits[name] = _compiled(_as_json(declaration))
            except ValueError as error:
                raise SuiteError(f"tool {name!r}: 'parameters' {error}") from None

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

    def shown(self, names: Iterable[str]) -> list[dict[str, JSON]]:
        """Return the declarations of some tools; everybody gets the same ones, and nobody can change them."""
        return FrozenList(self.declarations[name] for name in names)

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
                f"there is no tool {quote(call.name)}",
                expected=list(available),
                did_you_mean=closest(call.name, available),
            )
        violations = self.violations(call)
        if not violations:
            return None
        first, *others = (violation.details() for violation in violations[:_MOST_VIOLATIONS])
        if len(violations) > _MOST_VIOLATIONS:
            others.append({"message": "and more"})
        return error_object(ErrorCode.INVALID_ARGUMENTS, **first, also=others or None)

    def violations(self, call: ToolCall) -> tuple[Violation, ...]:
        """Return what is wrong with the arguments of a declared tool: at most eleven violations, in a stable order."""
        if self._fits[call.name](call.arguments):
            return ()
        try:
            return read_violations(bounded(self._validators[call.name], call.arguments, _MOST_VIOLATIONS + 1))
        except TooLargeError:
            return (Violation("", "", "the arguments are too large to be checked; send less at once"),)


_Fits = Callable[[Mapping[str, JSON]], bool]


@functools.lru_cache(maxsize=1024)  # tasks that bring their own tools are played many times, and bring the same ones
def _compiled(text: str) -> tuple[dict[str, JSON], Draft202012Validator, _Fits]:
    own = freeze(json.loads(text))
    return own, compile_schema(own["function"]["parameters"]), flat_test(own["function"]["parameters"])


def _checked_name(declaration: JSON) -> str:
    function = declaration.get("function") if isinstance(declaration, Mapping) else None
    if not isinstance(function, Mapping) or declaration.get("type") != "function":
        raise SuiteError(
            f"tool declaration {quote(declaration)} is not of the form "
            '{"type": "function", "function": {"name", "description", "parameters"}}'
        )
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not _CALLABLE_NAME.fullmatch(name):
        raise SuiteError(
            f"tool name {quote(name)} is refused; expected 1 to 64 letters, digits, '_' or '-', no digit first"
        )
    if not isinstance(function.get("description"), str) or not function["description"].strip():
        raise SuiteError(f"tool {name!r} has no description; a model chooses tools by it, so write one sentence")
    if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
        raise SuiteError(f'tool {name!r}: \'parameters\' must be a JSON Schema with "type": "object"')
    return name


def _as_json(declaration: Mapping[str, JSON]) -> str:
    try:
        text = json.dumps(declaration, allow_nan=False)
        json.dumps(declaration, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("are nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None
    return text

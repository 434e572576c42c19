"""Every kind of wrong call gets its code, its JSON Pointer, and a message that says what would be right."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from awpo_env.errors import SuiteError
from awpo_env.schema import ToolSet, integral
from awpo_env.schema_rules import is_integer
from awpo_env.types import ToolCall

PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "pattern": "^[A-Z]"},
        "days": {"type": "integer", "minimum": 1},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "stops": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"a/b~c": {"type": "string"}},
                "required": ["a/b~c"],
                "additionalProperties": False,
            },
        },
        "never": False,
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}


def declare(
    parameters: Any = PARAMETERS, name: Any = "weather", description: Any = "Tell the weather."
) -> dict[str, Any]:
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS = ToolSet([declare()])


def error_of(arguments: dict[str, Any], **changes: Any) -> dict[str, Any]:
    valid = {"city": "Oslo", "days": 2}
    error = TOOLS.check(ToolCall("weather", {**valid, **arguments, **changes}), ["weather"])
    assert error is not None
    return error["error"]


@pytest.mark.parametrize(
    ("arguments", "path", "message", "expected", "did_you_mean"),
    [
        ({"days": "2"}, "/days", "/days: '2' is not of type integer", "integer", None),
        ({"days": True}, "/days", "/days: True is not of type integer", "integer", None),
        ({"days": 2.5}, "/days", "/days: 2.5 is not of type integer", "integer", None),
        ({"days": 1e300}, "/days", "/days: 1e+300 is not of type integer", "integer", None),
        ({"days": 0}, "/days", "/days: 0 violates minimum 1", None, None),
        ({"city": "oslo"}, "/city", "/city: 'oslo' violates pattern '^[A-Z]'", "^[A-Z]", None),
        (
            {"unit": "celcius"},
            "/unit",
            "/unit: 'celcius' is not one of ['celsius', 'fahrenheit']",
            ["celsius", "fahrenheit"],
            "celsius",
        ),
        ({"unit": 3}, "/unit", "/unit: 3 is not one of ['celsius', 'fahrenheit']", ["celsius", "fahrenheit"], None),
        ({"unti": "celsius"}, "", "unknown argument 'unti'", ["city", "days", "unit", "stops", "never"], "unit"),
        ({"stops": [{"a/b~c": 1}]}, "/stops/0/a~1b~0c", "/stops/0/a~1b~0c: 1 is not of type string", "string", None),
        ({"stops": [{}]}, "/stops/0", "/stops/0: missing a/b~c", ["a/b~c"], None),
        ({"never": 1}, "", "nothing is allowed here", None, None),
    ],
)
def test_each_violation_is_located_and_explained(
    arguments: dict[str, Any], path: str, message: str, expected: Any, did_you_mean: str | None
) -> None:
    error = error_of(arguments)
    assert error["code"] == "invalid_arguments"
    assert error["path"] == path
    assert error["message"] == message
    assert error.get("expected") == expected
    assert error.get("did_you_mean") == did_you_mean


def test_absent_arguments_are_named_once_and_together() -> None:
    error = TOOLS.check(ToolCall("weather", {}), ["weather"])
    assert error == {
        "error": {
            "code": "invalid_arguments",
            "message": "missing city, days",
            "path": "",
            "expected": ["city", "days"],
        }
    }


def test_violations_come_in_the_order_of_their_paths_whatever_the_order_of_the_arguments() -> None:
    wrong = {"unit": "k", "days": "x", "city": 1, "stops": [1] * 11}
    error = error_of(wrong)
    assert error_of(dict(reversed(wrong.items()))) == error
    assert error["message"] == "/city: 1 is not of type string"
    assert error["also"][0] == {
        "message": "/days: 'x' is not of type integer",
        "path": "/days",
        "expected": "integer",
    }
    assert [other.get("path") for other in error["also"]] == ["/days", *(f"/stops/{n}" for n in range(8)), None]
    assert error["also"][-1] == {"message": "and more"}


def test_every_violation_has_its_own_hints() -> None:
    error = error_of({"unit": "celcius", "dyas": 3, "days": 0})
    assert {"path": error["path"], "did_you_mean": error["did_you_mean"]} == {"path": "", "did_you_mean": "days"}
    assert error["also"] == [
        {"message": "/days: 0 violates minimum 1", "path": "/days"},
        {
            "message": "/unit: 'celcius' is not one of ['celsius', 'fahrenheit']",
            "path": "/unit",
            "expected": ["celsius", "fahrenheit"],
            "did_you_mean": "celsius",
        },
    ]


def test_unknown_arguments_are_named_in_order() -> None:
    assert error_of({"z": 1, "y": 1, "x": 1, "w": 1})["message"] == "unknown argument 'w', 'x', 'y'"


def test_list_items_are_ordered_by_number() -> None:
    stops: list[Any] = [{"a/b~c": "x"}] * 11
    stops[10], stops[2] = 1, 1
    assert error_of({"stops": stops})["message"].startswith("/stops/2: ")


def test_a_tool_that_is_not_on_show_does_not_exist() -> None:
    error = TOOLS.check(ToolCall("weather", {}), ["wheather", "other"])
    assert error is not None
    assert error["error"] == {
        "code": "unknown_tool",
        "message": "there is no tool 'weather'",
        "expected": ["wheather", "other"],
        "did_you_mean": "wheather",
    }


def test_huge_values_are_quoted_short() -> None:
    assert len(json.dumps(error_of({"days": "x" * 100_000}))) < 300
    assert len(json.dumps(error_of({"y" * 100_000: 1}))) < 500
    assert len(json.dumps(error_of({"stops": [1] * 40_000}))) < 1_500
    assert len(json.dumps(TOOLS.check(ToolCall("z" * 100_000), ["weather"]))) < 300


def test_valid_calls_pass() -> None:
    for arguments in ({"city": "Oslo", "days": 1}, {"city": "Oslo", "days": 3.0, "unit": "celsius", "stops": []}):
        assert TOOLS.check(ToolCall("weather", arguments), ["weather"]) is None


def test_integers_are_those_of_json_schema_up_to_64_bits() -> None:
    assert all(is_integer(value) for value in (0, -3, 3.0, 2**63 - 1, -(2**63)))
    assert not any(is_integer(value) for value in (True, 0.5, "1", None, 2**63, 1e300, float("inf"), float("nan")))


def test_whole_floats_become_integers_at_any_depth() -> None:
    plain = integral({"a": 3.0, "b": [1.5, {"c": 2.0}], "d": "4.0", "e": 1e300, "f": True})
    assert plain == {"a": 3, "b": [1.5, {"c": 2}], "d": "4.0", "e": 1e300, "f": True}
    assert type(plain["a"]) is int and type(plain["b"][1]["c"]) is int and plain["f"] is True


@pytest.mark.parametrize(
    ("declaration", "problem"),
    [
        ("weather", "is not of the form"),
        ({"name": "weather"}, "is not of the form"),
        (declare(name="2nd"), "'2nd' is refused"),
        (declare(name="a" * 65), "is refused"),
        (declare(name="__class__.x"), "is refused"),
        (declare(description=" "), "'weather' has no description"),
        (declare({"type": "string"}), '"type": "object"'),
        (declare({"type": "object", "properties": {"a": {"type": "text"}}}), "no valid Draft 2020-12 schema"),
    ],
)
def test_a_malformed_declaration_is_refused(declaration: Any, problem: str) -> None:
    with pytest.raises(SuiteError, match=problem):
        ToolSet([declaration])


def test_a_name_declared_twice_is_refused() -> None:
    with pytest.raises(SuiteError, match="declared twice"):
        ToolSet([declare(), declare()])


def test_declarations_are_copied_and_tool_sets_travel_between_processes() -> None:
    declaration = copy.deepcopy(declare())
    tools = ToolSet([declaration])
    declaration["function"]["name"] = "changed"
    other = pickle.loads(pickle.dumps(tools))
    assert other.declarations == tools.declarations == TOOLS.declarations
    assert other.check(ToolCall("weather", {}), ["weather"]) == TOOLS.check(ToolCall("weather", {}), ["weather"])

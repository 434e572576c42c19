"""Python functions become tools: their hints and docstrings say all a model needs, and they get what they hinted."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NewType, NotRequired, Optional, TypedDict

import pydantic
import pytest

from awpo_env.docstrings import read_docstring
from awpo_env.env import ToolUseEnv
from awpo_env.errors import SuiteError, ToolError
from awpo_env.functions import declare, suite_from_functions
from awpo_env.hints import plain, read_hint
from awpo_env.types import AssistantMessage, Task, ToolCall, UserTurn


class Unit(enum.Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


@dataclass(frozen=True)
class Place:
    city: str
    floor: Annotated[int, {"minimum": 0}] = 0
    tags: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.city == "Atlantis":
            raise ValueError("Atlantis is under water.")


@dataclass
class Branch:
    name: str
    parts: list[Branch] = field(default_factory=list)


class Options(TypedDict):
    deep: bool
    note: NotRequired[str]


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=2)
    home: Optional[Person] = None  # noqa: UP045 - what a user may write

    @pydantic.field_validator("name")
    @classmethod
    def check_name(cls, name: str) -> str:
        if name == "Nobody":
            raise ValueError("nobody is called Nobody")
        return name


UserId = NewType("UserId", int)
PLACE = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "floor": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("hint", "schema", "value", "read"),
    [
        (bool, {"type": "boolean"}, True, True),
        (int, {"type": "integer"}, 3, 3),
        (float, {"type": "number"}, 3, 3),
        (None, {"type": "null"}, None, None),
        (Any, {}, [1], [1]),
        (UserId, {"type": "integer"}, 3, 3),
        (list, {"type": "array"}, [1], [1]),
        (list[Unit], {"type": "array", "items": {"enum": ["celsius", "kelvin"]}}, ["kelvin"], [Unit.KELVIN]),
        (set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, [2, 1], {1, 2}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}, [1, 2], (1, 2)),
        (
            tuple[str, Unit],
            {
                "type": "array",
                "prefixItems": [{"type": "string"}, {"enum": ["celsius", "kelvin"]}],
                "items": False,
                "minItems": 2,
            },
            ["a", "kelvin"],
            ("a", Unit.KELVIN),
        ),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}, {"a": 1}),
        (dict, {"type": "object"}, {}, {}),
        (Literal["a", 2, None], {"enum": ["a", 2, None]}, 2, 2),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, None),
        (Place | Unit, {"anyOf": [PLACE, {"enum": ["celsius", "kelvin"]}]}, {"city": "Oslo"}, Place("Oslo")),
        (Place | Unit, {"anyOf": [PLACE, {"enum": ["celsius", "kelvin"]}]}, "kelvin", Unit.KELVIN),
        (Place, PLACE, {"city": "Oslo", "tags": ["a"]}, Place("Oslo", 0, ("a",))),
        (
            Options,
            {
                "type": "object",
                "properties": {"deep": {"type": "boolean"}, "note": {"type": "string"}},
                "required": ["deep"],
                "additionalProperties": False,
            },
            {"deep": True},
            {"deep": True},
        ),
        (Annotated[int, "Days."], {"type": "integer", "description": "Days."}, 1, 1),
        (
            Annotated[str, {"format": "date"}, "When."],
            {"type": "string", "format": "date", "description": "When."},
            "",
            "",
        ),
        (
            Annotated[int, pydantic.Field(ge=1, lt=9, multiple_of=2, description="Even.")],
            {"type": "integer", "minimum": 1, "exclusiveMaximum": 9, "multipleOf": 2, "description": "Even."},
            2,
            2,
        ),
        (
            Annotated[str, pydantic.Field(min_length=1, max_length=3, pattern="^a")],
            {"type": "string", "minLength": 1, "maxLength": 3, "pattern": "^a"},
            "a",
            "a",
        ),
        (
            Annotated[list[int], pydantic.Field(min_length=1)],
            {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            [1],
            [1],
        ),
    ],
)
def test_a_hint_is_a_schema_and_a_way_to_read_values(hint: Any, schema: Any, value: Any, read: Any) -> None:
    understood = read_hint(hint)
    assert understood.schema == schema and understood.definitions == {}
    assert understood.read(value) == read and type(understood.read(value)) is type(read)


def test_classes_that_contain_themselves_go_to_definitions() -> None:
    understood = read_hint(list[Branch])
    reference = {"$ref": "#/$defs/Branch"}
    assert understood.schema == {"type": "array", "items": reference}
    assert understood.definitions["Branch"]["properties"]["parts"] == {"type": "array", "items": reference}
    tree = {"name": "a", "parts": [{"name": "b", "parts": [{"name": "c"}]}, {"name": "d"}]}
    assert understood.read([tree]) == [Branch("a", [Branch("b", [Branch("c")]), Branch("d")])]


def test_pydantic_models_are_validated_by_themselves() -> None:
    understood = read_hint(Person)
    assert understood.schema["$ref"] == "#/$defs/Person"
    assert understood.definitions["Person"]["properties"]["name"]["minLength"] == 2
    home = understood.read({"name": "Ann", "home": {"name": "Bo"}})
    assert home == Person(name="Ann", home=Person(name="Bo"))
    with pytest.raises(ValueError, match=r"^home\.name: Value error, nobody is called Nobody$"):
        understood.read({"name": "Ann", "home": {"name": "Nobody"}})


@pytest.mark.parametrize("hint", [bytes, Callable[[], int], dict[int, str], "text", list[complex], Literal[b"a"]])
def test_a_hint_that_means_nothing_in_json_is_refused(hint: Any) -> None:
    with pytest.raises(TypeError, match="expected "):
        read_hint(hint)


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (Place("Oslo", 1, ("a",)), {"city": "Oslo", "floor": 1, "tags": ["a"]}),
        ([Unit.KELVIN, {"b", "a"}], ["kelvin", ["a", "b"]]),
        ({"who": Person(name="Ann")}, {"who": {"name": "Ann", "home": None}}),
        ("text", "text"),
    ],
)
def test_results_become_json(value: Any, result: Any) -> None:
    assert plain(value) == result


def forecast(
    state: dict[str, Any],
    where: Place,
    days: Annotated[int, "From today."],
    unit: Unit = Unit.CELSIUS,
    *,
    note: str | None = None,
    marker: Any = ...,
) -> Place:
    """Tell the weather.

    It may be wrong.

    Args:
        where: The place, as
            exactly as known.
        days: Hidden by the hint.
        unit (Unit): Of the answer.

    Returns:
        The place.
    """
    state["asked"] += 1
    if days > 7:
        raise ToolError("Nobody knows.")
    state["last"] = f"{where.city} {unit.name} {note} {marker is ...}"
    return where


def test_a_function_declares_itself() -> None:
    assert declare(forecast) == {
        "type": "function",
        "function": {
            "name": "forecast",
            "description": "Tell the weather.\nIt may be wrong.",
            "parameters": {
                "type": "object",
                "properties": {
                    "where": {**PLACE, "description": "The place, as exactly as known."},
                    "days": {"type": "integer", "description": "From today."},
                    "unit": {"enum": ["celsius", "kelvin"], "description": "Of the answer.", "default": "celsius"},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "marker": {},
                },
                "required": ["where", "days"],
                "additionalProperties": False,
            },
        },
    }


def task(*calls: ToolCall) -> Task:
    reference = (AssistantMessage(calls=calls), AssistantMessage(content="Done."))
    return Task("one", "one", {"asked": 0, "last": ""}, (UserTurn("Hello.", reference),))


def test_functions_get_python_values_and_leave_no_trace_when_they_fail() -> None:
    suite = suite_from_functions([forecast], name="weather", tasks=[task()])
    state = {"asked": 0, "last": ""}
    backend = suite.backend(state)
    where = {"city": "Oslo"}
    assert backend.forecast(where=where, days=1, unit="kelvin") == {"city": "Oslo", "floor": 0, "tags": []}
    assert backend.snapshot() == {"asked": 1, "last": "Oslo KELVIN None True"}
    assert state == {"asked": 0, "last": ""}
    with pytest.raises(ToolError, match="where: Atlantis is under water"):
        backend.forecast(where={"city": "Atlantis"}, days=1)
    before = backend.snapshot()
    backend.forecast(where=where, days=2)
    backend.restore(before)
    assert backend.snapshot() == before
    for name in ("_hidden", "fore_cast"):
        with pytest.raises(AttributeError):
            getattr(backend, name)


async def slowly(state: dict[str, Any], by: int) -> set[int]:
    """Count."""
    await asyncio.sleep(0)
    state["asked"] += by
    return {state["asked"]}


def test_asynchronous_functions_are_awaited() -> None:
    suite = suite_from_functions([slowly], name="slow", tasks=[task(ToolCall("slowly", {"by": 2}))])
    env = ToolUseEnv(suite)
    env.reset(seed=0)
    observation, *_ = env.step('<tool_call>{"name": "slowly", "arguments": {"by": 2}}</tool_call>')
    assert json.loads(observation["new_messages"][-1]["content"]) == [2]
    assert env.step("Done.")[-1]["outcome"].success
    env.close()


def no_docstring(a: int) -> None: ...


def no_hint(a) -> None:  # type: ignore[no-untyped-def]
    """Do it."""


def starred(*a: int) -> None:
    """Do it."""


def by_position(a: int, /) -> None:
    """Do it."""


def strange(a: complex) -> None:
    """Do it."""


def missing(a: NoSuchClass) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Do it."""


def snapshot() -> None:
    """Do it."""


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (no_docstring, "'no_docstring' has no docstring"),
        (no_hint, "parameter 'a' has no type hint; write what it takes, for example a: str"),
        (starred, "parameter 'a' cannot be given by name"),
        (by_position, "parameter 'a' cannot be given by name"),
        (strange, "parameter 'a': nothing in JSON corresponds to <class 'complex'>"),
        (missing, "a type hint cannot be resolved: name 'NoSuchClass' is not defined"),
        (snapshot, "a tool cannot be called 'snapshot'"),
    ],
)
def test_a_function_that_cannot_be_declared_is_refused(function: Callable[..., Any], problem: str) -> None:
    with pytest.raises(SuiteError, match=problem):
        suite_from_functions([function], name="bad", tasks=[task()])


def test_a_suite_of_functions_needs_tasks_that_fit() -> None:
    with pytest.raises(SuiteError, match="has no tasks"):
        suite_from_functions([forecast], name="weather")
    with pytest.raises(SuiteError, match=r"uses a tool 'forcast' that is not declared\. Did you mean 'forecast'"):
        suite_from_functions([forecast], name="weather", tasks=[task(ToolCall("forcast"))])
    with pytest.raises(SuiteError, match="task id 'one' is used twice"):
        suite_from_functions([forecast], name="weather", tasks=[task(), dataclasses.replace(task(), kind="two")])


@pytest.mark.parametrize(
    ("text", "summary", "arguments"),
    [
        ("One line.", "One line.", {}),
        ("One\nsentence.\n\nAnother.\n", "One sentence.\nAnother.", {}),
        (
            "Add.\n\nParameters:\n  a: One.\n  *rest: Two:\n    three.\n\n  c (int): Four.\nRaises:\n  ValueError: a.",
            "Add.",
            {"a": "One.", "rest": "Two: three.", "c": "Four."},
        ),
        (
            "Add.\n\n:param a: One\n    or two.\n:param int b: Three.\n:type a: int\n:returns: c: Four.",
            "Add.",
            {"a": "One or two.", "b": "Three."},
        ),
        ("Note: this is no section.", "Note: this is no section.", {}),
    ],
)
def test_docstrings_are_taken_apart(text: str, summary: str, arguments: dict[str, str]) -> None:
    read = read_docstring(text)
    assert (read.summary, read.arguments) == (summary, arguments)

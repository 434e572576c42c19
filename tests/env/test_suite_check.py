"""`awpo env check`: a sound suite passes, and each sort of unsoundness is found by the check that is for it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from awpo_env.errors import UsageError
from awpo_env.suite_check import check_suite
from awpo_env.suites import BUILT_IN, load_suite

LAMPS = {
    "tools.json": """[{"type": "function", "function": {"name": "paint", "description": "Paint a lamp.", "parameters": {
        "type": "object", "required": ["lamp", "colour"], "additionalProperties": false,
        "properties": {"lamp": {"type": "string"}, "colour": {"type": "string"}}}}}]""",
    "policy.md": "Paint what the user asks for.",
    "backend.py": """
import contextlib, time
from awpo_env.errors import ToolError

class Backend:
    def __init__(self, state):
        self.colours = dict(state)

    def snapshot(self):
        return dict(self.colours)

    def restore(self, snapshot):
        self.colours = dict(snapshot)

    def paint(self, lamp, colour):
        is_known = lamp in self.colours
        self.colours[lamp] = colour
        if not is_known:
            raise ToolError(f"there is no lamp {lamp}")
        return {"lamp": lamp}
""",
    "tasks.py": """
import random
from awpo_env.types import AssistantMessage, Task, ToolCall, UserTurn

PRESETS, KINDS = ("easy",), ("paint",)

def generate(split, index, preset):
    call = ToolCall("paint", {"lamp": "left", "colour": "red"})
    steps = (AssistantMessage(calls=(call,)), AssistantMessage(content="It is red."))
    turn = UserTurn(f"Paint the left lamp red, order {split} {index}.", steps)
    return Task(f"{split}/{preset}/{index}", "paint", {"left": "white", "right": "white"}, (turn,))
""",
}

STRINGS = '"lamp": {"type": "string"}, "colour": {"type": "string"}'
RESTORED_SOMETIMES = "= dict(snapshot) if len(snapshot) < len(self.colours) else self.colours"

SHARED = '= self.__init__.__dict__.setdefault("shared", dict(state))'
COUNTED = '= {**state, "number": len(self.__init__.__dict__)}; self.__init__.__dict__[str(time.perf_counter_ns())] = 1'

# file, what stands there, what breaks it, the check that finds it, words of the finding
FAULTS = [
    ("tasks.py", "AssistantMessage(content=", "AssistantMessage(calls=(call,), content=", "reference solves", "stops"),
    ("tasks.py", '"colour": "red"}', '"colour": 3}', "reference solves", "ends as completed"),
    ("tasks.py", '"colour": "red"', '"colour": "white"', "doing nothing fails", "solved by answering"),
    ("tasks.py", "order {split} {index}", "{random.random()}", "equal seeds, equal episodes", "two different tasks"),
    ("tasks.py", "order {split} {index}", "order {index}", "train and test differ", "are the same task"),
    (
        "backend.py",
        '{"lamp": lamp}',
        '{"at": time.perf_counter_ns()}',
        "equal seeds, equal episodes",
        "two different ep",
    ),
    (
        "backend.py",
        "def paint",
        "transaction = contextlib.nullcontext\n    def paint",
        "failed calls leave no trace",
        "changed the",
    ),
    ("backend.py", "raise ToolError", "raise KeyError", "failed calls leave no trace", "KeyError"),
    ("backend.py", "= dict(snapshot)", RESTORED_SOMETIMES, "failed calls leave no trace", "restore() does not undo"),
    ("backend.py", "return dict(self", "return tuple(self", "failed calls leave no trace", "no JSON value"),
    (
        "tools.json",
        STRINGS,
        '"lamp": {"const": "left"}, "colour": {"const": "red"}',
        "chance fails",
        "random valid calls",
    ),
    ("tools.json", STRINGS, '"lamp": {"const": "left"}, "colour": {"pattern": "r"}', "chance fails", "cannot sample"),
    ("tools.json", STRINGS, STRINGS.replace('"}', '", "pattern": "e"}'), "near misses are refused", "cannot sample"),
    ("tasks.py", '"colour": "red"}', '"colour": 3}', "reference calls are valid", "calls paint wrongly: /colour: 3"),
    ("backend.py", "= dict(state)", "= state", "episodes share nothing", "copy it in __init__"),
    ("backend.py", "= dict(state)", SHARED, "episodes share nothing", "another that goes on beside it"),
    ("backend.py", "= dict(state)", COUNTED, "episodes share nothing", "otherwise after another one"),
]


def write_suite(folder: Path, files: dict[str, str]) -> str:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return f"{folder}/"


def failing(name: str, num_tasks: int = 8) -> dict[str, str]:
    checks = check_suite(load_suite(name), num_tasks)
    return {check.name: " ".join(check.findings) for check in checks if not check.is_passed}


def test_a_sound_suite_passes_every_check(tmp_path: Path) -> None:
    assert failing(write_suite(tmp_path, LAMPS)) == {}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[3] + ": " + fault[2][:30])
def test_a_fault_is_found_by_its_check(tmp_path: Path, fault: tuple[str, str, str, str, str]) -> None:
    file, sound, broken, check, words = fault
    assert sound in LAMPS[file], "the fault changes nothing"
    files = {**LAMPS, file: LAMPS[file].replace(sound, broken)}
    findings = failing(write_suite(tmp_path, files))
    assert check in findings
    assert words in findings[check]


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_suites_are_sound(name: str) -> None:
    assert failing(name, num_tasks=4) == {}


def test_fixed_tasks_are_checked_without_a_generator(tmp_path: Path) -> None:
    task = load_suite(write_suite(tmp_path / "generated", LAMPS)).task("train/easy/0").to_json() | {"id": "paint_left"}
    fixed = {name: text for name, text in LAMPS.items() if name != "tasks.py"} | {"tasks.jsonl": json.dumps(task)}
    checks = list(check_suite(load_suite(write_suite(tmp_path / "fixed", fixed)), 8))
    assert {check.where for check in checks} == {"tasks.jsonl"}
    assert all(check.is_passed for check in checks)


def test_one_split_and_preset_can_be_chosen() -> None:
    checks = list(check_suite(load_suite("calculator"), 2, split="test", preset="full"))
    assert {check.where for check in checks} == {"test/full"}


def test_a_split_of_fixed_tasks_can_be_chosen(tmp_path: Path) -> None:
    task = load_suite(write_suite(tmp_path / "generated", LAMPS)).task("train/easy/0").to_json()
    tasks = [json.dumps(task | {"id": name}) for name in ("train/a", "test/b", "c")]
    fixed = {name: text for name, text in LAMPS.items() if name != "tasks.py"} | {"tasks.jsonl": "\n".join(tasks)}
    suite = load_suite(write_suite(tmp_path / "fixed", fixed))
    details = {split: [check.detail for check in check_suite(suite, 8, split=split)] for split in (None, "test")}
    assert "3 of 3 tasks solved" in details[None] and "2 of 2 tasks solved" in details["test"]
    for choice in ({"split": "tset"}, {"preset": "easy"}):
        with pytest.raises(UsageError):
            list(check_suite(suite, 8, **choice))
    only_test = dataclasses.replace(suite, tasks={"test/b": suite.tasks["test/b"]})
    with pytest.raises(UsageError, match="has no tasks in split 'train'"):
        list(check_suite(only_test, 8, split="train"))


@pytest.mark.parametrize("choice", [{"split": "tset"}, {"preset": "imposible"}, {"num_tasks": 0}])
def test_impossible_choices_are_refused(choice: dict) -> None:
    with pytest.raises(UsageError):
        list(check_suite(load_suite("calculator"), **choice))

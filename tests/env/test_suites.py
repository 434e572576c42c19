"""Suites load from folders and packages alike, and every inconsistency is a sentence that names both sides."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from awpo_env import suites
from awpo_env.errors import SuiteError, UsageError
from awpo_env.shapes import write_tool
from awpo_env.suites import BUILT_IN, SPLITS, Suite, load_suite
from awpo_env.types import Task

NOTES = Path(__file__).parent / "suite_notes"
GENERATOR = """
from awpo_env.types import Task, UserTurn
PRESETS, KINDS = ("easy", "hard"), ("hello",)
def generate(split, index, preset):
    return Task(f"{split}/{preset}/{index}", "hello", {"next": 0, "notes": {}}, (UserTurn(f"{split} {index}", ()),))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the notes suite that a test may spoil."""
    return Path(shutil.copytree(NOTES, tmp_path / "notes", ignore=shutil.ignore_patterns("__pycache__")))


def edit_tools(folder: Path, change: Callable[[list[Any]], Any]) -> None:
    tools = json.loads((folder / "tools.json").read_text())
    change(tools)
    (folder / "tools.json").write_text(json.dumps(tools))


def edit_task(folder: Path, **changes: Any) -> None:
    lines = (folder / "tasks.jsonl").read_text().splitlines()
    (folder / "tasks.jsonl").write_text("\n".join([json.dumps({**json.loads(lines[0]), **changes}), *lines[1:]]))


def parameters(tools: list[Any], name: str) -> dict[str, Any]:
    return next(tool["function"]["parameters"] for tool in tools if tool["function"]["name"] == name)


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def tools(change: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    return lambda folder: edit_tools(folder, change)


def task(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_task(folder, **changes)


def rename(tools: list[Any], name: str) -> None:
    tools[0]["function"]["name"] = name


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (remove("tools.json"), r"tools\.json is missing"),
        (remove("policy.md"), r"policy\.md is missing"),
        (remove("backend.py"), r"backend\.py is missing"),
        (remove("tasks.jsonl"), r"has no tasks: expected tasks\.py or tasks\.jsonl"),
        (write("backend.py", "x = 1"), r"backend\.py has no 'Backend'"),
        (write("tasks.py", "PRESETS = ()"), r"tasks\.py has no 'KINDS'"),
        (write("tools.json", "[\n{]"), r"tools\.json: line 2: "),
        (write("tools.json", "{}"), "expected a list of tool declarations"),
        (lambda folder: (folder / "policy.md").write_bytes(b"\xff"), "is not UTF-8 text"),
        (tools(lambda all: rename(all, "list_note")), "declares 'list_note' but Backend has no such method"),
        (tools(lambda all: rename(all, "snapshot")), "cannot be called 'snapshot'"),
        (tools(lambda all: rename(all, "__init__")), "cannot be called '__init__'"),
        (
            tools(lambda all: parameters(all, "get_note")["properties"].update(page={"type": "integer"})),
            r"'get_note' declares arguments \['note_id', 'page'\] but Backend.get_note takes \['note_id'\]",
        ),
        (
            tools(lambda all: parameters(all, "get_note").update(required=[])),
            r"Backend.get_note needs \['note_id'\] but tools.json does not list them as required",
        ),
        (write("tasks.jsonl", "{}\n"), "line 1 is no task: KeyError"),
        (write("tasks.jsonl", "\n[]\n"), "line 2 is no task"),
        (task(id="add"), "task id 'add' is used twice"),
        (task(turns=[]), "has no turns"),
        (task(tools=["get_nite"]), "uses a tool 'get_nite'.*Did you mean 'get_note'"),
        (
            task(turns=[{"message": "", "reference": [], "facts": [{"value": ""}]}]),
            "has a fact without a value",
        ),
        (task(turns=[{"message": "", "reference": [], "new_tools": ["x"]}]), "uses a tool 'x'"),
        (task(turns=[{"message": "", "reference": [{"calls": [{"name": "y", "arguments": {}}]}]}]), "uses a tool 'y'"),
    ],
)
def test_an_inconsistent_suite_is_refused(folder: Path, spoil: Callable[[Path], None], problem: str) -> None:
    spoil(folder)
    with pytest.raises(SuiteError, match=problem):
        load_suite(folder)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("retial", "unknown suite 'retial'. Did you mean 'retail'"),
        ("no_such_package.weather", "unknown suite 'no_such_package.weather'. Registered are"),
        ("./no_such_folder", "suite folder './no_such_folder' does not exist"),
        ("math", "is a module; expected a package"),
        ("json", r"tools\.json is missing"),
        ("", "is no name of a package"),
        (".weather", "is no name of a package"),
    ],
)
def test_an_unknown_suite_is_refused(name: str, problem: str) -> None:
    with pytest.raises(SuiteError, match=problem):
        load_suite(name)


def test_a_suite_that_lacks_a_library_says_so_itself(folder: Path) -> None:
    (folder / "backend.py").write_text("import no_such_library")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        load_suite(folder)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The notes suite as an importable package, with a generator instead of fixed tasks."""
    root = Path(shutil.copytree(NOTES, tmp_path / "awpo_test_package" / "notes"))
    (root / "tasks.jsonl").unlink()
    (root / "tasks.py").write_text(GENERATOR)
    monkeypatch.syspath_prepend(tmp_path)
    yield "awpo_test_package.notes"
    for module in [name for name in sys.modules if name.startswith("awpo_test_package")]:
        del sys.modules[module]


def test_folders_and_packages_load_alike(notes: Suite, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = load_suite(package)
    assert suite.tools.declarations == notes.tools.declarations
    assert (suite.presets, suite.kinds, suite.policy) == (("easy", "hard"), ("hello",), notes.policy)
    assert (notes.presets, notes.kinds) == ((), ("add", "ask", "clean"))
    monkeypatch.chdir(NOTES.parent)
    assert load_suite("./suite_notes").tasks == notes.tasks
    assert load_suite("./suite_notes") is load_suite("./suite_notes")


def test_the_same_relative_name_elsewhere_is_another_suite(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_task(folder, id="other")
    monkeypatch.chdir(NOTES)
    here = load_suite(".")
    monkeypatch.chdir(folder)
    assert (set(here.tasks), set(load_suite(".").tasks)) == ({"ask", "add", "clean"}, {"other", "add", "clean"})


INSTALLED = """
from awpo_env.suites import load_suite, make_suite
retail = load_suite("retail")
def build():
    return make_suite("made", retail.tools, retail.backend, policy="Be kind.", tasks=[retail.task("test/full/0")])
number = 3
"""


@pytest.fixture
def installed(tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution that registers four suites, on the module path."""
    (tmp_path / "awpo_test_module.py").write_text(INSTALLED)
    entries = (
        f"one={package}\nbuilt=awpo_test_module:build\nready=awpo_test_module:retail\nwrong=awpo_test_module:number\n"
    )
    for name, lines in (("awpo_test_one", entries), ("awpo_test_two", "")):
        (tmp_path / f"{name}-1.dist-info").mkdir()
        (tmp_path / f"{name}-1.dist-info/METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (tmp_path / f"{name}-1.dist-info/entry_points.txt").write_text(f"[awpo.suites]\n{lines}")
    suites._registered.cache_clear()
    yield tmp_path
    suites._registered.cache_clear()
    suites._load_attribute.cache_clear()
    sys.modules.pop("awpo_test_module", None)


def test_installed_suites_are_registered_as_the_built_in_ones_are(installed: Path) -> None:
    assert load_suite("one").presets == ("easy", "hard")
    assert load_suite("ready") is load_suite("retail")
    made = load_suite("built")
    assert (made.policy, list(made.tasks)) == ("Be kind.", ["test/full/0"])
    assert made is load_suite("built") and made is not load_suite("awpo_test_module:build")
    with pytest.raises(SuiteError, match="'number' of awpo_test_module is 3; expected a Suite, or a function"):
        load_suite("wrong")
    with pytest.raises(SuiteError, match="'none' of awpo_test_module is None"):
        load_suite("awpo_test_module:none")
    with pytest.raises(SuiteError, match=r"unknown suite 'redy'\. Did you mean 'ready'"):
        load_suite("redy")
    assert {entry.name for entry in entry_points(group=suites.ENTRY_POINTS)} >= {*BUILT_IN, "one", "built", "ready"}


def test_two_packages_cannot_register_one_name(installed: Path) -> None:
    (installed / "awpo_test_two-1.dist-info/entry_points.txt").write_text("[awpo.suites]\nretail = other.retail\n")
    with pytest.raises(SuiteError, match="two installed packages register a suite 'retail'"):
        load_suite("retail")


def test_tools_may_be_declared_in_any_shape(folder: Path, notes: Suite) -> None:
    declarations = [write_tool(tool, "mcp") for tool in notes.tools.declarations.values()]
    (folder / "tools.json").write_text(json.dumps(declarations))
    assert load_suite(folder).tools.declarations == notes.tools.declarations


def test_generated_tasks_are_named_by_split_preset_and_index(package: str) -> None:
    suite = load_suite(package)
    assert suite.task("test/hard/12").turns[0].message == "test 12"
    for task_id in ("test/hard/012", "test/hard/-1", "test/hard/\u0661", "test/hard", "test/hard/1/2", "x" * 999):
        with pytest.raises(UsageError, match="expected '<split>/<preset>/<index>'"):
            suite.task(task_id)
    with pytest.raises(UsageError, match="test/hard/9"):
        suite.task("test/hard/" + "9" * 5000)
    with pytest.raises(UsageError, match="Did you mean 'hard'"):
        suite.task("test/hrad/1")
    with pytest.raises(UsageError, match="unknown split 'dev'"):
        suite.task("dev/hard/1")


def test_line_separators_inside_a_task_do_not_end_its_line(folder: Path) -> None:
    first = json.loads((folder / "tasks.jsonl").read_text().splitlines()[0])
    first["turns"][0]["message"] = "one\u2028two"
    (folder / "tasks.jsonl").write_text(json.dumps(first, ensure_ascii=False) + "\n\n", encoding="utf-8")
    assert load_suite(folder).tasks["ask"].turns[0].message == "one\u2028two"


@pytest.mark.parametrize("name", BUILT_IN)
def test_tasks_survive_json(name: str) -> None:
    suite = load_suite(name)
    for split in SPLITS:
        for preset in suite.presets:
            task = suite.task(f"{split}/{preset}/7")
            assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task

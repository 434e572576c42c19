"""Loading a tool suite: declarations, backend, policy and tasks, checked against each other."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from awpo_env.errors import SuiteError, UsageError, did_you_mean
from awpo_env.outcomes import MALFORMED
from awpo_env.schema import ToolSet
from awpo_env.types import JSON, Task

BUILT_IN = ("calculator", "meetings", "retail")
"""Suites that come with the package, as modules of `awpo_tools`."""

SPLITS = ("train", "test")

_RESERVED = ("snapshot", "restore", "transaction", "close", MALFORMED)
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")


class Backend(Protocol):
    """The state behind the tools. Its methods carry the tools' names and take their arguments by keyword.

    A backend may also have ``transaction()``, a context manager that undoes what was done inside it when an exception
    leaves it; without one, `snapshot` and `restore` are used around every call. ``close()`` is optional.
    """

    def __init__(self, state: JSON) -> None: ...

    def snapshot(self) -> JSON:
        """The whole state as a JSON value, in a deterministic order."""
        ...

    def restore(self, snapshot: JSON) -> None:
        """Go back to a snapshot."""
        ...


@dataclass(frozen=True, slots=True)
class Suite:
    """A domain: its tools, the code behind them, its rules and its tasks.

    Attributes:
        name: What it was loaded as.
        tools: Compiled declarations.
        backend: Builds the state of one episode from `Task.state`.
        policy: Domain rules the agent is told.
        presets: Names of the task generator's difficulty presets; the first is the default. Empty without a generator.
        kinds: Every task kind the generator makes.
        generate: ``(split, index, preset) -> Task``, a pure function, or None.
        tasks: Fixed tasks by id, from ``tasks.jsonl``; an id ``train/...`` or ``test/...`` belongs to that split only.
    """

    name: str
    tools: ToolSet
    backend: Callable[[JSON], Backend]
    policy: str
    presets: tuple[str, ...]
    kinds: tuple[str, ...]
    generate: Callable[[str, int, str], Task] | None
    tasks: Mapping[str, Task]

    def fixed_ids(self, split: str) -> tuple[str, ...]:
        """Return the ids of the fixed tasks of a split: ``<split>/...``, or any id that names neither split."""
        others = tuple(f"{other}/" for other in SPLITS if other != split)
        return tuple(task_id for task_id in self.tasks if not task_id.startswith(others))

    def task(self, task_id: str) -> Task:
        """Return a fixed task by its id, or generate ``<split>/<preset>/<index>``.

        Raises:
            UsageError: There is no such task.
        """
        self.check_task_id(task_id)
        if task_id in self.tasks:
            return self.tasks[task_id]
        assert self.generate is not None, "checked above"
        split, preset, index = task_id.split("/")
        task = self.generate(split, int(index), preset)
        _check_task(self.name, self.tools, task)
        return task

    def check_task_id(self, task_id: str) -> None:
        """Raise UsageError unless `task` can return such a task."""
        if not isinstance(task_id, str):
            raise UsageError(f"task id {task_id!r} is {type(task_id).__name__}; expected a string")
        if task_id in self.tasks:
            return
        parts = task_id.split("/")
        if self.generate is None or len(parts) != 3 or not _INDEX.fullmatch(parts[2]):
            expected = "'<split>/<preset>/<index>'" if self.generate else f"one of {sorted(self.tasks)[:5]}"
            hint = did_you_mean(task_id, self.tasks)
            raise UsageError(f"suite {self.name!r} has no task {task_id[:80]!r}; expected {expected}.{hint}")
        self.check(parts[0], parts[1])

    def check_split(self, split: str) -> None:
        """Raise UsageError unless there is such a split."""
        if split not in SPLITS:
            raise UsageError(f"unknown split {split!r}; expected one of {SPLITS}.{did_you_mean(str(split), SPLITS)}")

    def check(self, split: str, preset: str) -> None:
        """Raise UsageError unless tasks of this split and preset can be generated."""
        self.check_split(split)
        if preset not in self.presets:
            raise UsageError(
                f"suite {self.name!r} has no preset {preset!r}; expected one of {self.presets}."
                + did_you_mean(str(preset), self.presets)
            )


def load_suite(name: str | Path) -> Suite:
    """Load a suite: a built-in name, an importable package (``my_package.weather``) or a folder (``./weather``).

    All three hold the same files: ``tools.json``, ``policy.md``, ``backend.py`` with a class ``Backend``, and tasks
    from ``tasks.py`` (``generate``, ``PRESETS``, ``KINDS``), from ``tasks.jsonl``, or from both. A suite is loaded
    once; later calls return the same object.

    Raises:
        SuiteError: Something is missing or two parts disagree; the message names both sides.
    """
    return _load(str(name), *_locate(name))


@functools.cache
def _load(name: str, folder: Path, package: str) -> Suite:
    tools = _read_tools(folder / "tools.json")
    backend = _attribute(package, "backend", folder, "Backend")
    _check_signatures(name, tools, backend)
    has_source = (folder / "tasks.py").exists()
    tasks = _read_tasks(name, tools, folder / "tasks.jsonl")
    if not has_source and not tasks:
        raise SuiteError(f"suite {name!r} has no tasks: expected tasks.py or tasks.jsonl in {folder}")
    fixed_kinds = sorted({task.kind for task in tasks.values()})
    return Suite(
        name=name,
        tools=tools,
        backend=backend,
        policy=_read_text(folder / "policy.md").strip(),
        presets=tuple(_attribute(package, "tasks", folder, "PRESETS")) if has_source else (),
        kinds=tuple(_attribute(package, "tasks", folder, "KINDS") if has_source else fixed_kinds),
        generate=_attribute(package, "tasks", folder, "generate") if has_source else None,
        tasks=tasks,
    )


def _attribute(package: str, module: str, folder: Path, name: str) -> Any:
    if not (folder / f"{module}.py").exists():
        raise SuiteError(f"suite file {folder / module}.py is missing")
    value = getattr(importlib.import_module(f"{package}.{module}"), name, None)
    if value is None:
        raise SuiteError(f"suite file {folder / module}.py has no {name!r}")
    return value


def _locate(name: str | Path) -> tuple[Path, str]:
    if isinstance(name, Path) or "/" in name or name in (".", ".."):
        folder = Path(name).resolve()
        if not folder.is_dir():
            raise SuiteError(f"suite folder '{name}' does not exist; expected a folder with tools.json and backend.py")
        return folder, _import_folder(folder)
    if not all(part.isidentifier() for part in name.split(".")):
        raise SuiteError(f"suite {name!r} is no name of a package; write './{name}' for a folder")
    package = f"awpo_tools.{name}" if name in BUILT_IN else name
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if not f"{package}.".startswith(f"{error.name}."):
            raise
        hint = did_you_mean(name, BUILT_IN) or f" Built in are {', '.join(BUILT_IN)}; write './{name}' for a folder."
        raise SuiteError(f"unknown suite {name!r}.{hint}") from None
    if not hasattr(module, "__path__"):
        raise SuiteError(f"suite {name!r} is a module; expected a package with tools.json and backend.py in it")
    return Path(module.__path__[0]), package


def _import_folder(folder: Path) -> str:
    """Make a plain folder importable under a name of its own, without putting its parent on the module path."""
    package = f"_awpo_suite_{folder.name}_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    if package not in sys.modules:
        module = ModuleType(package)
        module.__path__ = [str(folder)]
        sys.modules[package] = module
    return package


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SuiteError(f"suite file {path} is missing") from None
    except UnicodeDecodeError as error:
        raise SuiteError(f"suite file {path} is not UTF-8 text: {error}") from None


def _read_tools(path: Path) -> ToolSet:
    try:
        declarations = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise SuiteError(f"{path}: line {error.lineno}: {error.msg}") from None
    if not isinstance(declarations, list) or not declarations:
        raise SuiteError(f"{path}: expected a list of tool declarations")
    return ToolSet(declarations)


def _read_tasks(name: str, tools: ToolSet, path: Path) -> dict[str, Task]:
    if not path.exists():
        return {}
    tasks = {}
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            task = Task.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SuiteError(f"{path}: line {number} is no task: {error!r}") from None
        if task.id in tasks:
            raise SuiteError(f"{path}: line {number}: task id {task.id!r} is used twice")
        _check_task(name, tools, task)
        tasks[task.id] = task
    return tasks


def _check_task(name: str, tools: ToolSet, task: Task) -> None:
    if not task.turns:
        raise SuiteError(f"suite {name!r}: task {task.id!r} has no turns; a user has to say something")
    if any(not fact.value for turn in task.turns for fact in turn.facts):
        raise SuiteError(f"suite {name!r}: task {task.id!r} has a fact without a value")
    used = {*task.tools, *(call.name for call in task.reference_calls())}
    used.update(tool for turn in task.turns for tool in turn.new_tools)
    for tool in sorted(used):
        if tool not in tools:
            raise SuiteError(
                f"suite {name!r}: task {task.id!r} uses a tool {tool!r} that tools.json does not declare."
                + did_you_mean(tool, tools)
            )


def _check_signatures(name: str, tools: ToolSet, backend: type) -> None:
    for tool in tools:
        if tool in _RESERVED or tool.startswith("__"):
            raise SuiteError(f"suite {name!r}: a tool cannot be called {tool!r}; the name has a meaning of its own")
        method = getattr(backend, tool, None)
        if not callable(method):
            raise SuiteError(f"suite {name!r}: tools.json declares {tool!r} but {backend.__name__} has no such method")
        accepted = list(inspect.signature(method).parameters.values())[1:]
        declared = tools.parameters(tool).get("properties", {})
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted):
            continue
        if {parameter.name for parameter in accepted} != set(declared):
            raise SuiteError(
                f"suite {name!r}: tool {tool!r} declares arguments {sorted(declared)} "
                f"but {backend.__name__}.{tool} takes {sorted(parameter.name for parameter in accepted)}"
            )
        needed = {parameter.name for parameter in accepted if parameter.default is parameter.empty}
        if missing := needed - set(tools.parameters(tool).get("required", ())):
            raise SuiteError(
                f"suite {name!r}: {backend.__name__}.{tool} needs {sorted(missing)} "
                "but tools.json does not list them as required"
            )

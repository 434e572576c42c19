"""Loading a tool suite: declarations, backend, policy and tasks, checked against each other."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

from awpo_env.errors import SuiteError, UsageError, did_you_mean
from awpo_env.schema import ToolSet
from awpo_env.types import JSON, Task

BUILT_IN = ("calculator", "meetings", "retail")
"""Suites that come with the package, as modules of `awpo_tools`."""

SPLITS = ("train", "test")


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
        tasks: Fixed tasks by id, from ``tasks.jsonl``.
    """

    name: str
    tools: ToolSet
    backend: Callable[[JSON], Backend]
    policy: str
    presets: tuple[str, ...]
    kinds: tuple[str, ...]
    generate: Callable[[str, int, str], Task] | None
    tasks: Mapping[str, Task]

    def task(self, task_id: str) -> Task:
        """Return a fixed task by its id, or generate ``<split>/<preset>/<index>``.

        Raises:
            UsageError: There is no such task.
        """
        if task_id in self.tasks:
            return self.tasks[task_id]
        split, _, rest = task_id.partition("/")
        preset, _, index = rest.partition("/")
        if self.generate is None or not index.isdecimal():
            raise UsageError(
                f"suite {self.name!r} has no task {task_id!r}; expected "
                + ("'<split>/<preset>/<index>'" if self.generate else f"one of {sorted(self.tasks)[:5]}")
            )
        self.check(split, preset)
        return self.generate(split, int(index), preset)

    def check(self, split: str, preset: str) -> None:
        """Raise UsageError unless tasks of this split and preset can be generated."""
        if split not in SPLITS:
            raise UsageError(f"unknown split {split!r}; expected one of {SPLITS}")
        if preset not in self.presets:
            raise UsageError(
                f"suite {self.name!r} has no preset {preset!r}; expected one of {self.presets}."
                + did_you_mean(preset, self.presets)
            )


@functools.cache
def load_suite(name: str) -> Suite:
    """Load a suite: a built-in name, an importable package (``my_package.weather``) or a folder (``./weather``).

    All three hold the same files: ``tools.json``, ``policy.md``, ``backend.py`` with a class ``Backend``, and tasks
    from ``tasks.py`` (``generate``, ``PRESETS``, ``KINDS``), from ``tasks.jsonl``, or from both.

    Raises:
        SuiteError: Something is missing or two parts disagree; the message names both sides.
    """
    folder, package = _locate(name)
    backend_module = importlib.import_module(f"{package}.backend")
    tools = ToolSet(_read_json(folder / "tools.json"))
    backend = backend_module.Backend
    _check_signatures(name, tools, backend)
    source = importlib.import_module(f"{package}.tasks") if (folder / "tasks.py").exists() else None
    tasks = _read_tasks(folder / "tasks.jsonl")
    if source is None and not tasks:
        raise SuiteError(f"suite {name!r} has no tasks: expected tasks.py or tasks.jsonl in {folder}")
    return Suite(
        name=name,
        tools=tools,
        backend=backend,
        policy=_read_text(folder / "policy.md").strip(),
        presets=tuple(source.PRESETS) if source else (),
        kinds=tuple(source.KINDS) if source else tuple(sorted({task.kind for task in tasks.values()})),
        generate=source.generate if source else None,
        tasks=tasks,
    )


def _locate(name: str) -> tuple[Path, str]:
    if "/" in name or name in (".", ".."):
        folder = Path(name).resolve()
        if not folder.is_dir():
            raise SuiteError(f"suite folder {name!r} does not exist; expected a folder with tools.json and backend.py")
        return folder, _import_folder(folder)
    package = f"awpo_tools.{name}" if name in BUILT_IN else name
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if not package.startswith(str(error.name)):
            raise
        hint = did_you_mean(name, BUILT_IN) or f" Built in are {', '.join(BUILT_IN)}; write './{name}' for a folder."
        raise SuiteError(f"unknown suite {name!r}.{hint}") from None
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


def _read_json(path: Path) -> JSON:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise SuiteError(f"{path}: line {error.lineno}: {error.msg}") from None


def _read_tasks(path: Path) -> dict[str, Task]:
    if not path.exists():
        return {}
    tasks = {}
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        try:
            task = Task.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise SuiteError(f"{path}: line {number} is no task: {error!r}") from None
        if task.id in tasks:
            raise SuiteError(f"{path}: line {number}: task id {task.id!r} is used twice")
        tasks[task.id] = task
    return tasks


def _check_signatures(name: str, tools: ToolSet, backend: type) -> None:
    for tool in tools:
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

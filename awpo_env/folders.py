"""Suites in folders: the files of one, each read and complained about by its path."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from awpo_env.errors import SuiteError
from awpo_env.json_text import unique_object
from awpo_env.schema import ToolSet
from awpo_env.types import JSON, Task


@dataclass(frozen=True, slots=True)
class FolderParts:
    """What the files of a folder hold.

    Attributes:
        declarations: ``tools.json``.
        backend: The class of ``backend.py``.
        policy: ``policy.md``.
        tasks: ``tasks.jsonl``, empty without one.
        generator: The module ``tasks.py``, None without one.
    """

    declarations: list[dict[str, JSON]]
    backend: type
    policy: str
    tasks: list[Task]
    generator: Any


def read_folder(folder: Path, package: str) -> FolderParts:
    """Read every file of a suite.

    Args:
        folder: Where the files are.
        package: Name under which the folder's modules can be imported.

    Raises:
        SuiteError: A file is missing or cannot be read.
    """
    declarations, policy = read_declarations(folder / "tools.json"), read_text(folder / "policy.md")
    backend = read_attribute(package, "backend", folder, "Backend")
    generator = None
    if (folder / "tasks.py").exists():
        for name in ("PRESETS", "KINDS", "generate"):
            read_attribute(package, "tasks", folder, name)
        generator = importlib.import_module(f"{package}.tasks")
    fixed = folder / "tasks.jsonl"
    return FolderParts(declarations, backend, policy, read_tasks(fixed) if fixed.exists() else [], generator)


def import_folder(folder: Path) -> str:
    """Make a plain folder importable under a name of its own, without putting its parent on the module path."""
    package = f"_awpo_suite_{folder.name}_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    if package not in sys.modules:
        module = ModuleType(package)
        module.__path__ = [str(folder)]
        sys.modules[package] = module
    return package


def read_attribute(package: str, module: str, folder: Path, name: str) -> Any:
    """Return a name of a suite's module.

    Raises:
        SuiteError: The file is missing or does not define the name.
    """
    if not (folder / f"{module}.py").exists():
        raise SuiteError(f"suite file {folder / module}.py is missing")
    value = getattr(importlib.import_module(f"{package}.{module}"), name, None)
    if value is None:
        raise SuiteError(f"suite file {folder / module}.py has no {name!r}")
    return value


def read_tasks(path: str | Path) -> list[Task]:
    """Return the tasks of a ``tasks.jsonl``, one JSON object a line; empty lines are skipped.

    Raises:
        SuiteError: The file is missing, or a line is no task.
    """
    lines = enumerate(read_text(Path(path)).split("\n"), start=1)
    return [read_task(f"{path}: line {number}", line) for number, line in lines if line.strip()]


def read_task(where: str, line: str) -> Task:
    """Return the task one line of a ``tasks.jsonl`` holds.

    Raises:
        SuiteError: It holds none; the message begins with `where`.
    """
    try:
        return Task.from_json(json.loads(line, object_pairs_hook=unique_object))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SuiteError(f"{where} is no task: {error!r}") from None


def read_declarations(path: Path) -> list[dict[str, JSON]]:
    """Return the list a ``tools.json`` holds.

    Raises:
        SuiteError: The file is missing or holds something else.
    """
    try:
        declarations = json.loads(read_text(path), object_pairs_hook=unique_object)
    except json.JSONDecodeError as error:
        raise SuiteError(f"{path}: line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise SuiteError(f"{path}: {error}") from None
    if not isinstance(declarations, list) or not declarations:
        raise SuiteError(f"{path}: expected a list of tool declarations")
    return declarations


def read_text(path: Path) -> str:
    """Return the text of a suite's file.

    Raises:
        SuiteError: It is missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SuiteError(f"suite file {path} is missing") from None
    except UnicodeDecodeError as error:
        raise SuiteError(f"suite file {path} is not UTF-8 text: {error}") from None


def check_signatures(name: str, tools: ToolSet, backend: type) -> None:
    """Raise SuiteError unless `backend` has a method for each tool that takes the declared arguments."""
    for tool in tools:
        method = getattr(backend, tool, None)
        if not callable(method):
            raise SuiteError(f"suite {name!r}: tools.json declares {tool!r} but {backend.__name__} has no such method")
        accepted = list(inspect.signature(method).parameters.values())[1:]
        declared = tools.parameters(tool).get("properties", {})
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted):
            continue
        if tools.parameters(tool).get("additionalProperties") is not False:
            raise SuiteError(
                f"suite {name!r}: tool {tool!r} lets a model send arguments it does not declare, and "
                f'{backend.__name__}.{tool} takes no others; set "additionalProperties": false'
            )
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

"""Every mistake in the files of a suite at once, where loading stops at the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from awpo_env.errors import UsageError
from awpo_env.folders import (
    check_signatures,
    import_folder,
    read_attribute,
    read_declarations,
    read_task,
    read_text,
)
from awpo_env.schema import ToolSet
from awpo_env.shapes import read_tool
from awpo_env.suites import make_suite
from awpo_env.types import JSON, Task, UserTurn

_TASK_NAMES = ("PRESETS", "KINDS", "generate")


def check_folder(folder: Path) -> dict[str, list[str]]:
    """Return what is wrong with each file of a suite; a list is empty where nothing is.

    Declarations, backend and tasks are looked at one by one, so that a broken tool hides nothing about the others.

    Args:
        folder: Where the suite's files are.
    """
    found: dict[str, list[str]] = {"tools.json": [], "policy.md": [], "backend.py": [], "tasks": []}
    package = import_folder(folder)
    backend = _tried(found["backend.py"], read_attribute, package, "backend", folder, "Backend")
    tools = _check_tools(folder, backend, found)
    _tried(found["policy.md"], read_text, folder / "policy.md")
    if (folder / "tasks.py").exists():
        for name in _TASK_NAMES:
            _tried(found["tasks"], read_attribute, package, "tasks", folder, name)
    elif not (folder / "tasks.jsonl").exists():
        found["tasks"].append(f"expected tasks.py or tasks.jsonl in {folder}")
    found["tasks"] += _check_tasks(folder, tools)
    return {file: list(dict.fromkeys(findings)) for file, findings in found.items()}


def _tried(findings: list[str], do: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `do` returns; what it raises is a finding, be it a wrong suite or broken code."""
    try:
        return do(*arguments)
    except UsageError as error:
        findings.append(str(error))
    except Exception as error:
        findings.append(f"{type(error).__name__}: {error}")
    return None


def _check_tools(folder: Path, backend: Any, found: dict[str, list[str]]) -> ToolSet:
    """Return the tools as far as they can be used, the broken ones without their schemas."""
    usable: dict[str, JSON] = {}
    broken: dict[str, JSON] = {}
    for position, declaration in enumerate(_tried(found["tools.json"], read_declarations, folder / "tools.json") or ()):
        tools = _tried(found["tools.json"], _read_tool, folder, declaration)
        name = _name(declaration, position)
        if name in usable or name in broken:
            found["tools.json"].append(f"tool {name!r} is declared twice; names must be unique within a suite")
        elif tools is None:
            broken[name] = _stand_in(name)
        else:
            usable[name] = tools.declarations[name]
            if backend is not None:
                _tried(found["backend.py"], check_signatures, folder.name, tools, backend)
    stand_ins = [each for each in broken.values() if _tried([], _read_tool, folder, each)]
    return ToolSet([*usable.values(), *stand_ins])


def _read_tool(folder: Path, declaration: JSON) -> ToolSet:
    tools = ToolSet([read_tool(declaration)])
    _check_task(folder, tools, Task("any", "any", None, (UserTurn("", ()),)))  # for the sake of the tool's name
    return tools


def _name(declaration: JSON, position: int) -> str:
    function = declaration.get("function", declaration) if isinstance(declaration, dict) else {}
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else f"tool_{position}"


def _stand_in(name: str) -> JSON:
    function = {"name": name, "description": "A broken tool.", "parameters": {"type": "object"}}
    return {"type": "function", "function": function}


def _check_task(folder: Path, tools: ToolSet, task: Task) -> None:
    make_suite(folder.name, tools, dict, policy="", tasks=[task])


def _check_tasks(folder: Path, tools: ToolSet) -> Iterator[str]:
    path, ids = folder / "tasks.jsonl", set()
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    for number, line in enumerate(lines, start=1):
        findings: list[str] = []
        task = _tried(findings, read_task, f"line {number}", line) if line.strip() else None
        if task is not None:
            if task.id in ids:
                findings.append(f"line {number}: task id {task.id!r} is used twice")
            ids.add(task.id)
            _tried(findings, _check_task, folder, tools, task)
            for call in task.reference_calls() if not findings else ():
                for violation in tools.violations(call):
                    findings.append(f"line {number}: task {task.id!r} calls {call.name} wrongly: {violation.message}")
        yield from findings

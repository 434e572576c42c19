"""A folder that cannot be loaded is told everything that is wrong with it, each thing where it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from awpo_agent import cli
from awpo_env.folder_check import check_folder

NOTES = Path(__file__).parent / "suite_notes"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound suite to be broken."""
    for file in ("tools.json", "policy.md", "backend.py", "tasks.jsonl"):
        (tmp_path / file).write_bytes((NOTES / file).read_bytes())
    return tmp_path


def change_tools(folder: Path, change: Any) -> None:
    tools = json.loads((folder / "tools.json").read_text())
    change([tool["function"] for tool in tools], tools)
    (folder / "tools.json").write_text(json.dumps(tools))


def test_nothing_is_wrong_with_a_sound_folder(folder: Path) -> None:
    assert check_folder(folder) == {"tools.json": [], "policy.md": [], "backend.py": [], "tasks": []}


def break_tools(functions: list[dict[str, Any]], tools: list[Any]) -> None:
    functions[0]["description"] = ""
    functions[1]["parameters"]["properties"]["note_id"] = {"$ref": "#/absent"}
    functions[2]["parameters"]["properties"]["colour"] = {"type": "string"}
    functions[3]["parameters"].pop("additionalProperties")
    tools += [tools[3], "no tool", {"type": "function", "function": {**functions[3], "name": "2nd"}}]
    tools.append({"type": "function", "function": {**functions[3], "name": "restore"}})


def test_a_folder_is_an_environment_to_every_command(folder: Path, tmp_path: Path) -> None:
    demonstrations, report = tmp_path / "demonstrations.jsonl", tmp_path / "report.json"
    assert cli.main(["env", "export", str(folder), "--episodes", "10", "--out", str(demonstrations)]) == 0
    kinds = {json.loads(line)["kind"] for line in demonstrations.read_text().splitlines()}
    words = ["--policy", "oracle", "--split", "train", "--episodes", "10", "--json", str(report)]
    assert cli.main(["eval", "--env", str(folder), *words]) == 0
    got = json.loads(report.read_text())
    assert got["success"]["value"] == 1.0 and set(got["by_kind"]) == kinds


def test_every_mistake_is_found_at_once(folder: Path) -> None:
    change_tools(folder, break_tools)
    (folder / "policy.md").unlink()
    lines = (folder / "tasks.jsonl").read_text().splitlines()
    lines[1] = lines[1].replace('"priority": 3', '"priority": 9').replace('"text": "buy two"', '"txt": "buy two"')
    lines += [lines[0], "{", '{"id": "x"}', lines[2].replace('"clean"', '"c"').replace('"get_note"', '"got_note"')]
    (folder / "tasks.jsonl").write_text("\n".join(lines))
    found = check_folder(folder)
    expected = {
        "tools.json": [
            "tool 'list_notes' has no description",
            "tool 'get_note': 'parameters' has no part '#/absent'",
            "tool 'delete_note' is declared twice",
            "tool declaration 'no tool' has no known shape",
            "tool name '2nd' is refused",
            "a tool cannot be called 'restore'",
        ],
        "policy.md": ["policy.md is missing"],
        "backend.py": [
            "tool 'add_note' declares arguments ['colour', 'priority', 'tags', 'text', 'title'] but Backend.add_note",
            "tool 'delete_note' lets a model send arguments it does not declare",
        ],
        "tasks": [
            "line 2: task 'add' calls add_note wrongly: missing text",
            "line 2: task 'add' calls add_note wrongly: unknown argument 'txt'",
            "line 2: task 'add' calls add_note wrongly: /priority: 9 violates maximum 5",
            "line 4: task id 'ask' is used twice",
            "line 5 is no task",
            "line 6 is no task: KeyError('kind')",
            "task 'c' uses a tool 'got_note' that is not declared. Did you mean 'get_note'?",
        ],
    }
    assert {file: len(findings) for file, findings in found.items()} == {
        file: len(findings) for file, findings in expected.items()
    }, found
    for file, findings in found.items():
        assert all(any(words in finding for finding in findings) for words in expected[file]), (findings, file)


@pytest.mark.parametrize(
    ("file", "text", "where", "finding"),
    [
        ("tools.json", "[", "tools.json", "line 1: Expecting value"),
        ("tools.json", "{}", "tools.json", "expected a list of tool declarations"),
        ("tools.json", '[{"type": "function", "type": "function"}]', "tools.json", "duplicate key"),
        ("tools.json", "[" * 100_000, "tools.json", "recursion"),
        ("backend.py", "import absent_module", "backend.py", "No module named 'absent_module'"),
        ("backend.py", "class Backend", "backend.py", "SyntaxError"),
        ("backend.py", "", "backend.py", "has no 'Backend'"),
        ("backend.py", "class Backend: pass", "backend.py", "has no such method"),
        ("tasks.py", "PRESETS = ()", "tasks", "has no 'generate'"),
        ("tasks.py", "1 / 0", "tasks", "ZeroDivisionError"),
    ],
)
def test_broken_files_are_findings(folder: Path, file: str, text: str, where: str, finding: str) -> None:
    (folder / file).write_text(text)
    assert finding in " ".join(check_folder(folder)[where])


def test_the_command_shows_every_finding_and_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_tools(folder, break_tools)
    (folder / "policy.md").unlink()
    assert cli.main(["tools", "check", f"{folder}/"]) == 1
    shown = capsys.readouterr().out
    assert "tools.json: tool 'list_notes' has no description" in shown
    assert "policy.md" in shown and "3 of 4 checks failed" in shown
    assert cli.main(["tools", "check", f"{folder}/", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["passed"]
    assert {check["name"]: len(check["findings"]) for check in report["checks"]}["tools.json"] == 6

"""`awpo tools new` writes a suite that loads, passes every check, and trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from awpo_agent import cli
from awpo_env.suite_check import check_suite
from awpo_env.suite_template import FILES, write_suite
from awpo_env.suites import load_suite


def test_the_suite_has_five_tools_and_ten_tasks_and_passes_every_check(tmp_path: Path) -> None:
    write_suite(tmp_path / "pantry")
    suite = load_suite(tmp_path / "pantry")
    assert (len(suite.tools), len(suite.tasks)) == (5, 10)
    assert [(check.name, check.findings) for check in check_suite(suite) if not check.is_passed] == []


def test_the_command_says_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["tools", "new", "pantry"]) == 0
    shown = capsys.readouterr().out
    assert "awpo tools check ./pantry" in shown and "awpo train --config pantry/train.yaml" in shown
    assert {path.name for path in (tmp_path / "pantry").iterdir()} == set(FILES)
    assert "SUITE_FOLDER" not in (tmp_path / "pantry" / "train.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "problem"), [("file", "exists already"), (".", "exists already"), ("file/x", "cannot be made")]
)
def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, problem: str) -> None:
    (tmp_path / "file").write_text("mine")
    assert cli.main(["tools", "new", str(tmp_path / name)]) == 2
    assert problem in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.heavy
def test_the_suite_trains(tmp_path: Path) -> None:
    write_suite(tmp_path / "pantry")
    flags = ["--max_steps", "1", "--generation_batch_size", "16", "--logging_steps", "1"]
    assert cli.main(["train", "--config", str(tmp_path / "pantry" / "train.yaml"), *flags]) == 0
    (metrics,) = (tmp_path / "pantry" / "runs" / "first" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(metrics)["reward_std"] > 0, "without a spread of rewards there is nothing to learn from"

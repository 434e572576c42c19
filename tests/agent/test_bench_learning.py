"""The explore tier of the learning benchmark: equal seeds learn alike, and a sweep that stopped goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_learning.py"


def sweep(folder, *arguments):
    command = [sys.executable, str(SCRIPT), "--variants", "grpo", "awpo", "--settings", "hackable", "--rates", "0.1"]
    command += ["--steps", "2", "--processes", "1", "--results", str(folder / "runs.jsonl"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done, [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_sweep_goes_on_where_it_was_and_equal_seeds_learn_alike(tmp_path):
    (tmp_path / "again").mkdir()
    done, one = sweep(tmp_path, "--seeds", "1", "--json", str(tmp_path / "table.json"))
    assert "| awpo |" in done.stdout and len(one) == 2
    assert {row["variant"] for row in json.loads((tmp_path / "table.json").read_text())["rows"]} == {"grpo", "awpo"}
    # The two were given the same tasks and luck, and differ by what the estimator made of them.
    assert one[0]["base"] == one[1]["base"] and one[0] | {"variant": ""} != one[1] | {"variant": ""}
    _, more = sweep(tmp_path, "--seeds", "2")
    assert more[:2] == one and {line["seed"] for line in more[2:]} == {1}
    _, again = sweep(tmp_path / "again", "--seeds", "1")
    assert sorted(again, key=str) == sorted(one, key=str)

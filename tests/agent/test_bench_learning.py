"""The explore tier of the learning benchmark: equal seeds learn alike, and a sweep that stopped goes on."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from awpo_agent.advantages import grpo

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def sweep(folder, *arguments):
    command = [sys.executable, str(BENCHMARKS / "bench_learning.py"), "--variants", "grpo", "awpo", "--rates", "0.1"]
    command += ["--settings", "hackable", "--steps", "3", "--tuning-seeds", "1", "--processes", "1"]
    command += ["--results", str(folder / "runs.jsonl"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    return done, [line for line in lines if line["use"] == "table"]


@pytest.mark.heavy
def test_a_sweep_goes_on_where_it_was_and_a_seed_learns_alike_whatever_its_neighbours(tmp_path):
    (tmp_path / "again").mkdir()
    done, one = sweep(tmp_path, "--seeds", "1", "--json", str(tmp_path / "table.json"))
    assert "| awpo |" in done.stdout and [line["variant"] for line in one] == ["grpo", "awpo"]
    assert {row["variant"] for row in json.loads((tmp_path / "table.json").read_text())["rows"]} == {"grpo", "awpo"}
    # The two were given the same tasks and luck.
    assert one[0]["solved"][0] == one[1]["solved"][0] and one[0]["train"] >= 0
    _, again = sweep(tmp_path, "--seeds", "1")
    assert again == one
    _, more = sweep(tmp_path / "again", "--seeds", "2")
    assert [line for line in more if line["seed"] == 0] == one and len(more) == 4


def test_the_figures_of_the_report_by_hand(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from learning_report import EPISODES_AN_EVALUATION, episodes_to, interval, mean_of, ratio_of_means

    curves = np.array([[0.0, 0.4, 0.8], [0.0, 0.0, 0.1], [0.6, 0.2, 0.2]])
    # Halfway between the first and the second evaluation, never, and from the start.
    assert (episodes_to(curves, 0.6) / EPISODES_AN_EVALUATION).tolist() == pytest.approx([1.5, 2.0, 0.0])
    assert ratio_of_means(np.array([1.0, 3.0]), np.array([4.0, 4.0])) == 0.5
    assert interval(mean_of, np.array([0.5, 0.5])) == (0.5, 0.5)
    low, high = interval(ratio_of_means, np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 4.0, 6.0, 8.0]))
    assert (low, high) == pytest.approx((0.5, 0.5))  # paired: every seed takes half as long


def test_the_control_blames_a_failing_group_alike_and_is_grpo_elsewhere(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from learning import BLAME, blame_alike

    outcome = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    ranges, there = torch.tensor([[0.0, 1.0]] * 3, dtype=torch.float64), torch.ones(3, 2, dtype=torch.bool)
    rewards = {"outcome_range_P2": ranges, "outcome_valid_PG": there}
    rewards |= {"reasoning_PG": torch.rand(3, 2, dtype=torch.float64), "reasoning_valid_PG": there}
    got = blame_alike(outcome_PG=outcome, epsilon=0.2, **rewards).advantages_PG
    assert got[0].tolist() == [-BLAME, -BLAME]
    assert torch.equal(got[1:], grpo(outcome, epsilon=0.2, **rewards).advantages_PG[1:])

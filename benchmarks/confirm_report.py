"""Table and figure of the confirming runs: every base and finalist beside GRPO on the same seeds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench_env import describe_machine  # isort: skip  (this folder is on the path of a script)
from learning_report import BASELINE, interval, mean_of, open_pyplot  # isort: skip

TRAINED_ON = "retail quickstart"
SMOOTHED_OVER = 6
"""Batches in the moving mean of the figure: eight tasks a batch make a rough curve."""

Runs = Mapping[tuple[str, str], Mapping[int, Mapping[str, object]]]
"""Lines of the results file by (base, finalist), then by seed."""


def read_runs(lines: Sequence[Mapping[str, object]]) -> Runs:
    """Return the runs by what was trained and how."""
    runs: dict[tuple[str, str], dict[int, Mapping[str, object]]] = defaultdict(dict)
    for line in lines:
        runs[line["base"], line["finalist"]][line["seed"]] = line
    return runs


def rows_of(runs: Runs) -> list[dict[str, object]]:
    """Return a row for every base and finalist: held-out success by suite, and less the baseline's on equal seeds."""
    rows = []
    for (base, finalist), by_seed in runs.items():
        baseline = runs.get((base, BASELINE), {})
        seeds = sorted(by_seed.keys() & baseline.keys())
        if not seeds:
            continue
        held_out, baseline_held_out = (
            np.array([which[seed]["held_out"][TRAINED_ON] for seed in seeds]) for which in (by_seed, baseline)
        )
        trained, baseline_trained = (
            np.array([np.mean(which[seed]["success_rate"]) for seed in seeds]) for which in (by_seed, baseline)
        )
        suites = by_seed[seeds[0]]["held_out"]
        rows.append(
            {
                **{"base": base, "finalist": finalist, "seeds": len(seeds)},
                "episodes": 64 * len(by_seed[seeds[0]]["success_rate"]),
                **{suite: float(np.mean([by_seed[seed]["held_out"][suite] for seed in seeds])) for suite in suites},
                "less_grpo": float((held_out - baseline_held_out).mean()),
                "less_grpo_interval": interval(mean_of, held_out - baseline_held_out),
                "while_training": float(trained.mean()),
                "while_training_less_grpo": float((trained - baseline_trained).mean()),
                "while_training_less_grpo_interval": interval(mean_of, trained - baseline_trained),
                "judge_alone": float(np.mean([np.mean(by_seed[seed]["awpo/frac_judge_alone"]) for seed in seeds])),
                "clipped": float(np.mean([np.mean(by_seed[seed]["clip_ratio"]) for seed in seeds])),
            }
        )
    return rows


def write_report(lines: Sequence[Mapping[str, object]], file: Path | None, figure: Path | None) -> None:
    """Print the table, write it as JSON to `file` and draw the curves to `figure`, if given."""
    runs = read_runs(lines)
    rows = rows_of(runs)
    for row in rows:
        print(json.dumps(row))
    if file:
        commit = subprocess.run(("git", "rev-parse", "--short", "HEAD"), capture_output=True, text=True).stdout.strip()
        command = " ".join(["python", *sys.argv])
        figures = {"command": command, "commit": commit, "machine": describe_machine(), "rows": rows}
        file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if figure:
        draw(runs, figure)


def draw(runs: Runs, file: Path) -> None:
    """Draw success while training against episodes, a panel a base: a thin line a seed, a thick one their mean."""
    pyplot = open_pyplot()
    bases = list(dict.fromkeys(base for base, _ in runs))
    finalists = list(dict.fromkeys(finalist for _, finalist in runs))
    figure, axes = pyplot.subplots(1, len(bases), figsize=(4 * len(bases), 2.8), sharey=True, squeeze=False)
    for axis, base in zip(axes[0], bases, strict=True):
        for number, finalist in enumerate(finalists):
            if (base, finalist) not in runs:
                continue
            curves = np.array([smoothed(run["success_rate"]) for run in runs[base, finalist].values()])
            episodes = 64 * (SMOOTHED_OVER + np.arange(curves.shape[1]))
            axis.plot(episodes, curves.T, color=f"C{number}", linewidth=0.4, alpha=0.5)
            axis.plot(episodes, curves.mean(axis=0), color=f"C{number}", linewidth=1.6, label=finalist)
        axis.set_title(base, fontsize=9)
        axis.set_xlabel("episodes", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0][0].set_ylabel(f"success while training, {SMOOTHED_OVER} batches", fontsize=8)
    axes[0][-1].legend(fontsize=6, frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def smoothed(values: Sequence[float]) -> np.ndarray:
    """The moving mean, from the first batch with enough before it."""
    return np.convolve(values, np.full(SMOOTHED_OVER, 1 / SMOOTHED_OVER), mode="valid")

"""Table and figure of the exploring sweep: paired over seeds, with 95 % intervals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
from scipy import stats

from bench_env import describe_machine  # isort: skip  (this folder is on the path of a script)
from learning import ELSEWHERE, EVALUATE_EVERY, NUM_GENERATIONS, NUM_PROMPTS, NUM_TASKS, NUM_TRIES, SETTINGS  # isort: skip

BASELINE, GAIN_SHARE = "grpo", 0.8
EPISODES_AN_EVALUATION = EVALUATE_EVERY * NUM_PROMPTS * NUM_GENERATIONS
_RESAMPLES = 5000

Curves = Mapping[tuple[str, str], np.ndarray]
"""Held-out success by (variant, setting), of shape (seeds, evaluations), seeds in their order."""


def read_curves(lines: Sequence[Mapping[str, object]]) -> Curves:
    """Return the curves of the runs that count for the table."""
    runs: dict[tuple[str, str], dict[int, list[int]]] = defaultdict(dict)
    for line in lines:
        if line["use"] == "table":
            runs[line["variant"], line["setting"]][line["seed"]] = line["solved"]
    return {
        cell: np.array([by_seed[seed] for seed in sorted(by_seed)]) / (NUM_TASKS * NUM_TRIES)
        for cell, by_seed in runs.items()
    }


def interval(statistic: Callable[..., np.ndarray], *samples: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a statistic over seeds, by bootstrap; samples are paired."""
    if len(samples[0]) < 2 or all(np.ptp(sample) == 0 for sample in samples):
        value = float(statistic(*samples, axis=0))
        return value, value
    found = stats.bootstrap(
        samples, statistic, paired=True, n_resamples=_RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(found.low), float(found.high)


def mean_of(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean, as `interval` wants it."""
    return values.mean(axis=axis)


def ratio_of_means(values: np.ndarray, others: np.ndarray, axis: int = -1) -> np.ndarray:
    """The ratio of means, as `interval` wants it."""
    return values.mean(axis=axis) / others.mean(axis=axis)


def episodes_to(curves: np.ndarray, target: float) -> np.ndarray:
    """Return for each seed after how many episodes held-out success first reached the target, between evaluations
    linearly; the whole budget where it never did, which flatters whoever fails."""
    episodes = []
    for curve in curves:
        above = np.flatnonzero(curve >= target)
        if not len(above):
            episodes.append(float(len(curve) - 1))
            continue
        after = int(above[0])
        rise = curve[after] - curve[after - 1] if after else 1.0
        episodes.append(after - (curve[after] - target) / rise if after else 0.0)
    return np.array(episodes) * EPISODES_AN_EVALUATION


def row_of(curves: Curves, variant: str, setting: str, runs: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return the figures of a variant in a setting, beside those of the baseline on the same seeds."""
    own, base = curves[variant, setting], curves[BASELINE, setting]
    final, area = own[:, -1], own.mean(axis=1)
    base_final, base_area = base[:, -1], base.mean(axis=1)
    target = base[:, 0].mean() + GAIN_SHARE * (base_final.mean() - base[:, 0].mean())
    steps, base_steps = episodes_to(own, target), episodes_to(base, target)
    wins = (area > base_area) + 0.5 * (area == base_area)
    table_runs = [run for run in runs if run["use"] == "table"]
    row: dict[str, object] = {
        "variant": variant,
        "setting": setting,
        "seeds": len(own),
        "rate": table_runs[0]["rate"],
        "before": float(own[:, 0].mean()),
        "final": float(final.mean()),
        "final_interval": interval(mean_of, final),
        "area": float(area.mean()),
        "area_interval": interval(mean_of, area),
        "clipped": float(np.mean([run["clipped"] for run in table_runs])),
        "judge_alone": float(np.mean([run["judge_alone"] for run in table_runs])),
        "judge_last": float(np.mean([run["judge_last"] for run in table_runs])),
    }
    for name in ELSEWHERE if setting == "sparse" else ():
        solved = np.array([run["elsewhere"][name] for run in table_runs]) / (NUM_TASKS * NUM_TRIES)
        row[f"{name}, before"], row[name] = (float(share) for share in solved.mean(axis=0))
        row[f"{name}, interval"] = interval(mean_of, solved[:, 1])
    if ("awpo", setting) in curves and variant != "awpo":
        awpo_final = curves["awpo", setting][:, -1]
        row["awpo_less_final"] = float((awpo_final - final).mean())
        row["awpo_less_final_interval"] = interval(mean_of, awpo_final - final)
    if variant != BASELINE:
        row |= {
            "final_less_baseline": float((final - base_final).mean()),
            "final_less_baseline_interval": interval(mean_of, final - base_final),
            "area_less_baseline": float((area - base_area).mean()),
            "area_less_baseline_interval": interval(mean_of, area - base_area),
            "improvement_probability": float(wins.mean()),
            "improvement_probability_interval": interval(mean_of, wins),
            "target": float(target),
            "episodes_ratio": float(ratio_of_means(steps, base_steps)),
            "episodes_ratio_interval": interval(ratio_of_means, steps, base_steps),
            "never_reached": [int((own < target).all(axis=1).sum()), int((base < target).all(axis=1).sum())],
        }
    return row


def write_report(lines: Sequence[Mapping[str, object]], file: Path | None, figure: Path | None) -> None:
    """Print the table as Markdown, write all figures as JSON to `file` and draw the curves to `figure`, if given."""
    curves = read_curves(lines)
    of_cell: dict[tuple[str, str], list[Mapping[str, object]]] = defaultdict(list)
    for line in lines:
        of_cell[line["variant"], line["setting"]].append(line)
    rows = [row_of(curves, *cell, of_cell[cell]) for cell in curves if (BASELINE, cell[1]) in curves]
    print(_markdown(rows))
    if file:
        commit = subprocess.run(("git", "rev-parse", "--short", "HEAD"), capture_output=True, text=True).stdout.strip()
        command = " ".join(["python", *sys.argv])
        figures = {"command": command, "commit": commit, "machine": describe_machine(), "rows": rows}
        file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if figure:
        draw(curves, figure)


def _markdown(rows: Sequence[Mapping[str, object]]) -> str:
    cells = {(row["variant"], row["setting"]): row for row in rows}
    settings = [name for name in SETTINGS if any(row["setting"] == name for row in rows)]
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    lines = ["| variant | " + " | ".join(settings) + " |", "| --- |" + " --- |" * len(settings)]
    for variant in variants:
        shown = [_shown(cells[variant, setting]) if (variant, setting) in cells else "" for setting in settings]
        lines.append(f"| {variant} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _shown(row: Mapping[str, object]) -> str:
    """Final success, less the baseline's with its interval, and the episodes to 0.8 of its gain over its own."""
    shown = f"{100 * row['final']:.1f}"
    if "episodes_ratio" in row:
        low, high = (100 * end for end in row["final_less_baseline_interval"])
        shown += f" ({low:+.1f} to {high:+.1f}); {row['episodes_ratio']:.2f}x"
        shown += f" ({row['episodes_ratio_interval'][0]:.2f} - {row['episodes_ratio_interval'][1]:.2f})"
    return shown


def open_pyplot() -> ModuleType:
    """Return matplotlib's plotting, set to write SVG; equal figures become equal bytes."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "awpo"
    from matplotlib import pyplot

    return pyplot


DRAWN = ("grpo", "grpo, failures blamed alike", "mixed", "gdpo", "papo", "awpo")


def draw(curves: Curves, file: Path) -> None:
    """Draw held-out success against episodes, a panel a setting, bands of 95 % over seeds."""
    pyplot = open_pyplot()
    settings = [name for name in SETTINGS if (BASELINE, name) in curves]
    figure, axes = pyplot.subplots(1, len(settings), figsize=(2.6 * len(settings), 2.6), sharey=True, squeeze=False)
    for axis, setting in zip(axes[0], settings, strict=True):
        for number, variant in enumerate(DRAWN):
            if (variant, setting) not in curves:
                continue
            own = curves[variant, setting]
            episodes = np.arange(own.shape[1]) * EPISODES_AN_EVALUATION
            error = 1.96 * own.std(axis=0, ddof=1) / len(own) ** 0.5
            axis.plot(episodes, own.mean(axis=0), color=f"C{number}", label=variant, linewidth=1.2)
            axis.fill_between(
                episodes,
                own.mean(axis=0) - error,
                own.mean(axis=0) + error,
                color=f"C{number}",
                alpha=0.15,
                linewidth=0,
            )
        axis.set_title(setting, fontsize=9)
        axis.set_xlabel("episodes", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0][0].set_ylabel("held-out success", fontsize=8)
    axes[0][-1].legend(fontsize=6, frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})

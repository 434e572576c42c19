"""The finalists on the language model that ships: equal episodes, settings and seeds; minutes a run.

Every run trains a small model on the retail suite's quickstart preset and is evaluated on held-out tasks there and in
other suites. A run is a line of the results file; what stands there is not repeated, and a run that was cut off goes on
from its last checkpoint.

    python benchmarks/confirm_learning.py --bases careless --finalists grpo awpo
    python benchmarks/confirm_learning.py --seeds 5 --json benchmarks/results/learning_confirm.json
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from awpo_agent.arguments import parse_config
from awpo_agent.chat import ChatTokens
from awpo_agent.cli import main as awpo
from awpo_agent.config import AWPOConfig
from awpo_agent.evaluate import evaluate_model
from awpo_agent.quickstart import CONFIG, EVALUATION_SEED
from awpo_agent.rollout import RolloutLimits
from awpo_agent.train import load_policy, run
from awpo_env.catalogue import make

from bench_env import describe_machine  # isort: skip  (this folder is on the path of a script)
from learning_report import interval, mean_of  # isort: skip

FINALISTS: Mapping[str, tuple[str, ...]] = {
    "grpo": ("--advantage_estimator", "grpo"),
    "awpo": ("--advantage_estimator", "awpo"),
    "mixed": ("--advantage_estimator", "mixed"),
    "awpo, reasoning_scale group_std": ("--advantage_estimator", "awpo", "--awpo_reasoning_scale", "group_std"),
    "awpo, all_wrong skip": ("--advantage_estimator", "awpo", "--awpo_all_wrong", "skip"),
}
BASES = ("shipped", "careless")
"""What is trained: the model that ships, and one that was taught to make mistakes, of whose episodes few succeed."""

ALIKE = ("--generation_batch_size", "64", "--num_iterations", "2", "--learning_rate", "1e-4", "--save_steps", "2")
ALIKE += ("--logging_steps", "1000")
MISTAKES = Path(__file__).parents[1] / "examples" / "configs" / "base_mistakes.yaml"
TRAINED_ON = "retail quickstart"
SUITES = {
    "retail quickstart": ("awpo/Retail-v0", "quickstart"),
    "retail full": ("awpo/Retail-v0", "full"),
    "meetings easy": ("awpo/Meetings-v0", "easy"),
    "filesystem easy": ("awpo/Filesystem-v0", "easy"),
}
STEP_METRICS = ("success_rate", "judge/mean", "judge/reference_beaten", "clip_ratio", "awpo/frac_judge_alone")


def base_model(base: str, folder: Path) -> str:
    """Return the model to train; the careless one is made in `folder` if it is not there: two minutes."""
    if base == "shipped":
        return "base"
    model = folder / "careless"
    if not (model / "model.safetensors").exists():
        demonstrations = folder / "mistakes.jsonl"
        out = ["--output_dir", str(model)]
        export = ["env", "export", "awpo/Retail-v0", "--preset", "quickstart", "--split", "train", "--out"]
        steps = (
            [*export, str(demonstrations), "--episodes", "2000", "--seed", "7", "--mistake-rate", "1.0"],
            ["sft", "--config", str(MISTAKES), "--data", f"[{demonstrations}]", "--model", "base", *out],
        )
        for step in steps:
            if code := awpo(step):
                raise SystemExit(code)
    return str(model)


def confirm(base: str, finalist: str, seed: int, steps: int, num_tasks: int, folder: Path) -> dict[str, object]:
    """Train one finalist in a run folder, go on where it was if there is one, and return its figures."""
    flags = ["--config", CONFIG, *ALIKE, *FINALISTS[finalist], "--seed", str(seed), "--max_steps", str(steps)]
    flags += ["--model", base_model(base, folder.parent)]
    if any((folder / "checkpoints").glob("checkpoint-*")):
        flags += ["--resume_from_checkpoint", "last"]
    config, _ = parse_config(AWPOConfig, [*flags, "--output_dir", str(folder)], "confirm", "the finalists")
    checkpoint = run(config)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    figures = {name: [round(line[name], 4) for line in lines if name in line] for name in STEP_METRICS}
    return {"held_out": held_out(str(checkpoint), config, num_tasks), **figures}


def held_out(model_name: str, config: AWPOConfig, num_tasks: int) -> dict[str, float]:
    """Share of held-out tasks solved in every suite at temperature 1; equal tasks and noise for every model."""
    model, tokenizer = load_policy(model_name)
    shares = {}
    for name, (env, preset) in SUITES.items():
        # The other suites' tools alone are longer than the conversations of training.
        length = config.max_length if env == config.env and preset == "quickstart" else 4096
        results = evaluate_model(
            model,
            ChatTokens(tokenizer, config.template_options),
            functools.partial(make, env, preset=preset, split="test"),
            num_tasks=num_tasks if preset == "quickstart" else max(num_tasks // 8, 1),
            num_tries=1,
            seed=EVALUATION_SEED,
            limits=RolloutLimits(length, config.max_turn_length, 1.0),
        )
        shares[name] = sum(bool(result.success) for result in results) / len(results)
    return shares


def rows_of(lines: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Return a row for every base and finalist: held-out success by suite, and less GRPO's on the same seeds."""
    runs: dict[tuple[str, str], dict[int, Mapping[str, object]]] = {}
    for line in lines:
        runs.setdefault((line["base"], line["finalist"]), {})[line["seed"]] = line
    rows = []
    for (base, finalist), by_seed in runs.items():
        baseline = runs.get((base, "grpo"), {})
        seeds = sorted(by_seed.keys() & baseline.keys())
        if not seeds:
            continue
        own, other = (
            np.array([which[seed]["held_out"][TRAINED_ON] for seed in seeds]) for which in (by_seed, baseline)
        )
        suites = {suite: float(np.mean([by_seed[seed]["held_out"][suite] for seed in seeds])) for suite in SUITES}
        while_training = np.array([np.mean(by_seed[seed]["success_rate"]) for seed in seeds])
        less = while_training - np.array([np.mean(baseline[seed]["success_rate"]) for seed in seeds])
        rows.append(
            {
                **{"base": base, "finalist": finalist, "seeds": len(seeds), **suites},
                "less_grpo": float((own - other).mean()),
                "less_grpo_interval": interval(mean_of, own - other),
                "while_training": float(while_training.mean()),
                "while_training_less_grpo_interval": interval(mean_of, less),
                "judge_alone": float(np.mean([np.mean(by_seed[seed]["awpo/frac_judge_alone"]) for seed in seeds])),
                "clipped": float(np.mean([np.mean(by_seed[seed]["clip_ratio"]) for seed in seeds])),
            }
        )
    return rows


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="+", choices=BASES, default=list(BASES), metavar="NAME")
    parser.add_argument("--finalists", nargs="+", choices=list(FINALISTS), default=list(FINALISTS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this (default %(default)s)")
    parser.add_argument("--steps", type=int, default=12, help="batches of 64 episodes a run (default %(default)s)")
    parser.add_argument("--tasks", type=int, default=256, help="held-out tasks, an eighth of them in other suites")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "learning_confirm.jsonl")
    parser.add_argument("--runs", type=Path, default=Path("runs/confirm"), help="where run folders are kept meanwhile")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the table to FILE")
    args = parser.parse_args()
    lines = []
    if args.results.exists():
        lines = [json.loads(line) for line in args.results.read_text(encoding="utf-8").splitlines()]
    known = {(line["base"], line["finalist"], line["seed"], line["steps"]) for line in lines}
    args.runs.mkdir(parents=True, exist_ok=True)
    for base, seed, finalist in itertools.product(args.bases, range(args.seeds), args.finalists):
        if (base, finalist, seed, args.steps) in known:
            continue
        folder = args.runs / f"{base}_{finalist.replace(', ', '_').replace(' ', '_')}_{seed}"
        figures = confirm(base, finalist, seed, args.steps, args.tasks, folder)
        lines.append({"base": base, "finalist": finalist, "seed": seed, "steps": args.steps, **figures})
        with args.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        shutil.rmtree(folder)
    rows = rows_of([line for line in lines if line["steps"] == args.steps])
    for row in rows:
        print(json.dumps(row))
    if args.json:
        commit = subprocess.run(("git", "rev-parse", "--short", "HEAD"), capture_output=True, text=True).stdout.strip()
        command = " ".join(["python", *sys.argv])
        figures = {"command": command, "commit": commit, "machine": describe_machine(), "rows": rows}
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

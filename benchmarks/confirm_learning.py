"""The finalists on the language model that ships: equal episodes, settings and seeds; minutes a run.

Every run trains a small model on the retail suite's quickstart preset and is evaluated on held-out tasks there and in
other suites. A run is a line of the results file; what stands there is not repeated, and a run that was cut off goes on
from its last checkpoint.

    python benchmarks/confirm_learning.py --bases careless --finalists grpo awpo
    python benchmarks/confirm_learning.py --report --json benchmarks/results/learning_confirm.json
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from awpo_agent.arguments import parse_config
from awpo_agent.chat import ChatTokens
from awpo_agent.cli import main as awpo
from awpo_agent.config import AWPOConfig
from awpo_agent.evaluate import evaluate_model
from awpo_agent.quickstart import CONFIG, EVALUATION_SEED
from awpo_agent.rollout import RolloutLimits
from awpo_agent.train import load_policy, run
from awpo_env.catalogue import make

from confirm_report import write_report  # isort: skip  (this folder is on the path of a script)

FINALISTS: Mapping[str, tuple[str, ...]] = {
    "grpo": ("--advantage_estimator", "grpo"),
    "awpo": ("--advantage_estimator", "awpo"),
    "mixed": ("--advantage_estimator", "mixed"),
    "awpo, reasoning_scale group_std": ("--advantage_estimator", "awpo", "--awpo_reasoning_scale", "group_std"),
    "awpo, all_wrong skip": ("--advantage_estimator", "awpo", "--awpo_all_wrong", "skip"),
    "awpo, all_wrong reason": ("--advantage_estimator", "awpo", "--awpo_all_wrong", "reason"),
}
BASES: Mapping[str, int] = {"shipped": 24, "careless": 12, "hasty": 48}
"""What is trained, and for how many batches of 64 episodes. The model that ships; one taught to slip now and then in
every message, of whose episodes few succeed though it mostly knows better; and one taught the habit of telling a result
without its last call, where one demonstration in fifty does all it should."""

ALIKE = ("--generation_batch_size", "64", "--num_iterations", "2", "--learning_rate", "1e-4", "--save_steps", "2")
ALIKE += ("--logging_steps", "1000")
MISTAKES = Path(__file__).parents[1] / "examples" / "configs" / "base_mistakes.yaml"
SUITES = {
    "retail quickstart": ("awpo/Retail-v0", "quickstart"),
    "retail full": ("awpo/Retail-v0", "full"),
    "meetings easy": ("awpo/Meetings-v0", "easy"),
    "filesystem easy": ("awpo/Filesystem-v0", "easy"),
}
STEP_METRICS = ("success_rate", "judge/mean", "judge/reference_beaten", "clip_ratio", "awpo/frac_judge_alone")


def base_model(base: str, folder: Path) -> str:
    """Return the model to train; the careless or hasty one is made in `folder` if it is not there: two minutes."""
    if base == "shipped":
        return "base"
    model = folder / base
    if not (model / "model.safetensors").exists():
        demonstrations = folder / f"{base}.jsonl"
        export = ["env", "export", "awpo/Retail-v0", "--preset", "quickstart", "--split", "train", "--seed", "7"]
        export += ["--episodes", "2000", "--mistake-rate", "1.0" if base == "careless" else "0.0"]
        call([*export, "--out", str(demonstrations)])
        if base == "hasty":
            make_hasty(demonstrations)
        tune = ["sft", "--config", str(MISTAKES), "--data", f"[{demonstrations}]", "--model", "base"]
        call([*tune, "--output_dir", str(model)])
    return str(model)


def call(command: Sequence[str]) -> None:
    """Run a command of awpo."""
    if code := awpo(command):
        raise SystemExit(code)


def make_hasty(demonstrations: Path) -> None:
    """Take the last call and what came of it out of all demonstrations but each fiftieth."""
    episodes = [json.loads(line) for line in demonstrations.read_text(encoding="utf-8").splitlines()]
    for number, episode in enumerate(episodes):
        if number % 50:
            messages = episode["messages"]
            last = max(index for index, message in enumerate(messages) if message.get("tool_calls"))
            messages[last : last + 1 + len(messages[last]["tool_calls"])] = []
    demonstrations.write_text("".join(json.dumps(episode) + "\n" for episode in episodes), encoding="utf-8")


def confirm(base: str, finalist: str, seed: int, num_tasks: int, folder: Path) -> dict[str, object]:
    """Train one finalist in a run folder, go on where it was if there is one, and return its figures."""
    flags = ["--config", CONFIG, *ALIKE, *FINALISTS[finalist], "--seed", str(seed), "--max_steps", str(BASES[base])]
    flags += ["--model", base_model(base, folder.parent)]
    if any((folder / "checkpoints").glob("checkpoint-*")):
        flags += ["--resume_from_checkpoint", "last"]
    config, _ = parse_config(AWPOConfig, [*flags, "--output_dir", str(folder)], "confirm", "the finalists")
    checkpoint = run(config)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    if len(lines) < BASES[base]:
        raise SystemExit(f"{folder}: stopped after {len(lines)} of {BASES[base]} batches; run this again to go on")
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


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="+", choices=list(BASES), default=list(BASES), metavar="NAME")
    parser.add_argument("--finalists", nargs="+", choices=list(FINALISTS), default=list(FINALISTS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this (default %(default)s)")
    parser.add_argument("--tasks", type=int, default=256, help="held-out tasks, an eighth of them in other suites")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "learning_confirm.jsonl")
    parser.add_argument("--runs", type=Path, default=Path("runs/confirm"), help="where run folders are kept meanwhile")
    parser.add_argument("--report", action="store_true", help="run nothing, report what is there")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the table to FILE")
    parser.add_argument("--figure", metavar="FILE", type=Path, help="draw the curves to FILE, an SVG")
    args = parser.parse_args()
    lines = []
    if args.results.exists():
        lines = [json.loads(line) for line in args.results.read_text(encoding="utf-8").splitlines()]
    known = {(line["base"], line["finalist"], line["seed"]) for line in lines}
    args.runs.mkdir(parents=True, exist_ok=True)
    for base, seed, finalist in itertools.product(args.bases, range(args.seeds), args.finalists):
        if args.report or (base, finalist, seed) in known:
            continue
        folder = args.runs / f"{base}_{finalist.replace(', ', '_').replace(' ', '_')}_{seed}"
        figures = confirm(base, finalist, seed, args.tasks, folder)
        lines.append({"base": base, "finalist": finalist, "seed": seed, **figures})
        with args.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        shutil.rmtree(folder)
    write_report(lines, args.json, args.figure)


if __name__ == "__main__":
    main()

"""``make quickstart``: evaluate the model that ships, train it with AWPO, evaluate again, and say what to do next."""

from __future__ import annotations

import functools
import json
import sys
import time
from dataclasses import asdict
from importlib import resources
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from awpo_agent.arguments import parse_config, show
from awpo_agent.chat import ChatTokens
from awpo_agent.cli import guarded
from awpo_agent.config import AWPOConfig
from awpo_agent.evaluate import evaluate_model, summarise
from awpo_agent.intervals import Estimate
from awpo_agent.rollout import RolloutLimits
from awpo_agent.train import load_policy, run
from awpo_env.catalogue import make

NUM_TASKS = 256
EVALUATION_SEED = 1
CONFIG = str(resources.files("awpo_agent").joinpath("quickstart.yaml"))


def evaluate(config: AWPOConfig, model_name: str, temperature: float) -> Estimate:
    """Return the success rate of a model on held-out tasks of the preset; equal tasks and noise for every model."""
    model, tokenizer = load_policy(model_name)
    chat = ChatTokens(tokenizer, config.template_options)
    make_env = functools.partial(make, config.env, **{**config.env_kwargs, "split": "test"})
    limits = RolloutLimits(config.max_length, config.max_turn_length, temperature)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"evaluating {Path(model_name).name}, temperature {temperature:g}", total=NUM_TASKS)
        results = evaluate_model(
            model,
            chat,
            make_env,
            num_tasks=NUM_TASKS,
            num_tries=1,
            seed=EVALUATION_SEED,
            limits=limits,
            on_end=functools.partial(progress.advance, task),
        )
    return summarise(results, num_tries=1).success


def main(argv: list[str]) -> int:
    """Run the quickstart; flags override the settings of quickstart.yaml."""
    config, is_dry_run = parse_config(
        AWPOConfig, ["--config", CONFIG, *argv], "quickstart", "Train the model that ships and see it get better."
    )
    config.check()
    if is_dry_run:
        show(config)
        return 0
    console = Console()
    started = time.monotonic()
    preset = config.env_kwargs.get("preset", "default")
    console.print(f"1/3  the model that ships, on {NUM_TASKS} held-out tasks of {config.env}, preset {preset}")
    console.print("     (all three parts take about eight minutes of one core)", highlight=False)
    before = {temperature: evaluate(config, config.model, temperature) for temperature in (1.0, 0.0)}
    _print_estimates(console, before)
    console.print(f"2/3  training with {config.advantage_estimator} on other tasks: {config.max_steps} steps")
    checkpoint = run(config)
    console.print("3/3  the trained model, same tasks, same decoding")
    after = {temperature: evaluate(config, str(checkpoint), temperature) for temperature in (1.0, 0.0)}
    _print_comparison(console, before, after)
    figures = {"before": before, "after": after}
    summary = {when: {_decoding(t): asdict(e) for t, e in estimates.items()} for when, estimates in figures.items()}
    (Path(config.output_dir) / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    minutes = (time.monotonic() - started) / 60
    console.print(
        f"{minutes:.1f} minutes. Run folder: {config.output_dir}  "
        "(metrics.jsonl, episodes.jsonl, config.yaml, summary.json)\n"
        f"Checkpoint: {checkpoint}\n"
        "Next:\n"
        "  play it yourself   .venv/bin/awpo env play awpo/Retail-v0 --preset quickstart\n"
        f"  evaluate again     .venv/bin/awpo eval --env awpo/Retail-v0 --preset quickstart --policy hf:{checkpoint} "
        f"--episodes {NUM_TASKS} --seed {EVALUATION_SEED}\n"
        "  train otherwise    .venv/bin/awpo train --config awpo_agent/quickstart.yaml --advantage_estimator grpo",
        soft_wrap=True,
        highlight=False,
    )
    return 0


def _print_estimates(console: Console, estimates: dict[float, Estimate]) -> None:
    for temperature, estimate in estimates.items():
        console.print(f"     {_decoding(temperature):<14} {estimate}", highlight=False)


def _print_comparison(console: Console, before: dict[float, Estimate], after: dict[float, Estimate]) -> None:
    table = Table(title="success on held-out tasks, 95 % intervals")
    for heading in ("decoding", "before", "after", "change"):
        table.add_column(heading, justify="left" if heading == "decoding" else "right")
    for temperature, old in before.items():
        new = after[temperature]
        table.add_row(_decoding(temperature), str(old), str(new), f"{100 * (new.value - old.value):+.1f} points")
    console.print(table)


def _decoding(temperature: float) -> str:
    return "greedy" if temperature == 0 else f"temperature {temperature:g}"


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))

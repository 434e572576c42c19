"""Which estimator learns what: every estimator and switch in easy, sparse and hostile settings; seconds a run.

The policy is a table over candidate messages (see `candidate_policy.py`) in a real environment, with the real rubric.
This explores: it shows how estimators differ, not how a language model learns. Every run is a line of the results file;
runs that stand there are not repeated, so an interrupted sweep goes on where it was.

    python benchmarks/bench_learning.py --seeds 3
    python benchmarks/bench_learning.py --variants awpo grpo papo --settings sparse hackable --seeds 8 --processes 4
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from awpo_agent.advantages import ESTIMATORS, AWPOSwitches, Stage, count_begun, staged
from awpo_agent.losses import clipped_surrogate
from awpo_agent.metrics import advantage_metrics
from awpo_env.suites import load_suite

from candidate_policy import ACTIONS, Node, Player, Policy  # isort: skip  (this folder is on the path of a script)

NUM_PROMPTS, NUM_GENERATIONS, NUM_EPOCHS, EPSILON = 8, 8, 2, 0.2
NUM_TRAIN_TASKS, NUM_TEST_TASKS = 40, 60


@dataclass(frozen=True, slots=True)
class Setting:
    """What is learnt under.

    Attributes:
        right_logit: Decides the base success.
        noise: Standard deviation of what is added to a judge score, before it is cut to [0, 1].
        words_weight: Share of the judge's score that is paid by the word.
        missing_rate: Share of the judge's scores that are missing.
    """

    right_logit: float
    noise: float = 0.0
    words_weight: float = 0.0
    missing_rate: float = 0.0


SETTINGS: Mapping[str, Setting] = {
    "easy": Setting(0.5),
    "sparse": Setting(-3.0),
    "noisy": Setting(-3.0, noise=0.3),
    "hackable": Setting(-3.0, words_weight=0.7),
    "missing": Setting(-3.0, missing_rate=0.3),
}

_SPARSE_STAGES = (Stage(metric="success_rate", at_least=0.5, gate="none"),)
VARIANTS: Mapping[str, tuple[str, AWPOSwitches, tuple[Stage, ...]]] = {
    **{name: (name, AWPOSwitches(), ()) for name in ESTIMATORS},
    "papo, lambda 1": ("papo", AWPOSwitches(coefficient=1.0), ()),
    **{
        f"awpo, {name} {value}": ("awpo", AWPOSwitches(**{name: value}), ())
        for name, values in {
            "gate": ("std_ratio_reason", "hard", "none"),
            "coefficient": (0.25, 1.0),
            "reasoning_floor": (0.0, 0.1),
            "reasoning_scale": ("fixed",),
            "all_right": ("reason", "outcome_only"),
            "all_wrong": ("reason", "outcome_only"),
            "difficulty": ("smooth", "none"),
            "clip": ("fixed", "widen"),
        }.items()
        for value in values
    },
    "awpo, judge until half succeed": ("awpo", AWPOSwitches(), _SPARSE_STAGES),
}


@cache
def _player(env_id: str, preset: str) -> Player:
    """One a process: what was played once is remembered for all runs."""
    suite = load_suite(env_id.removeprefix("awpo/").partition("-")[0].lower())
    kinds = sorted({suite.task(f"train/{preset}/{index}").kind for index in range(NUM_TRAIN_TASKS)})
    return Player(env_id, preset, kinds)


def learn(env_id: str, preset: str, variant: str, setting: str, rate: float, seed: int, steps: int) -> dict[str, float]:
    """Train one table and return its figures; equal arguments give equal figures.

    Args:
        env_id: Environment.
        preset: Of its tasks.
        variant: Of `VARIANTS`.
        setting: Of `SETTINGS`.
        rate: Adam's learning rate.
        seed: Draws tasks, choices and what befalls the judge.
        steps: Updates, each of 64 episodes.
    """
    estimator, switches, stages = VARIANTS[variant]
    world, player = SETTINGS[setting], _player(env_id, preset)
    # The same draws for every variant: what differs is what the estimator makes of them.
    rng = np.random.default_rng([seed, zlib.crc32(setting.encode())])
    policy = Policy(player.num_rows, world.right_logit)
    optimizer = torch.optim.Adam(policy.parameters, lr=rate)
    base = held_out_success(player, policy, seed)
    lines, begun = [], 0
    for step in range(steps):
        episodes, rewards = _play_batch(player, policy, world, rng)
        got = ESTIMATORS[estimator](**rewards, epsilon=EPSILON, switches=staged(switches, stages, begun))
        _update(policy, optimizer, episodes, got.advantages_PG.flatten().float(), got.clip_epsilon)
        success = float(rewards["outcome_PG"].mean())
        judged = rewards["reasoning_PG"][rewards["reasoning_valid_PG"]]
        lines.append({"success": success, "judge": float(judged.mean()), **advantage_metrics(got)})
        begun = count_begun(stages, begun, step + 1, {"success_rate": success})
    last = lines[-max(steps // 6, 1) :]
    mean = {name: float(np.mean([line[name] for line in lines])) for name in lines[0]}
    return {
        "base": base,
        "held_out": held_out_success(player, policy, seed),
        "train_last": float(np.mean([line["success"] for line in last])),
        "train_mean": mean["success"],
        "judge_last": float(np.mean([line["judge"] for line in last])),
        "variance": mean["awpo/variance"],
        "variance_reasoning": mean["awpo/variance_reasoning"],
        "frac_judge_alone": mean["awpo/frac_judge_alone"],
    }


def held_out_success(player: Player, policy: Policy, seed: int) -> float:
    """Share of held-out tasks solved, four episodes each."""
    choose = policy.sampler(np.random.default_rng([seed, 1]))
    ends = [player.play("test", index, choose)[0][-1] for index in range(NUM_TEST_TASKS) for _ in range(4)]
    return float(np.mean([end.success for end in ends]))


def _play_batch(
    player: Player, policy: Policy, world: Setting, rng: np.random.Generator
) -> tuple[list[tuple[list[Node], list[int]]], dict[str, torch.Tensor]]:
    choose = policy.sampler(rng)
    tasks = rng.choice(NUM_TRAIN_TASKS, size=NUM_PROMPTS, replace=False)
    episodes = [player.play("train", int(task), choose) for task in tasks for _ in range(NUM_GENERATIONS)]
    shape = (NUM_PROMPTS, NUM_GENERATIONS)
    noise, luck = rng.normal(size=len(episodes)), rng.random(len(episodes))
    scores = []
    for (nodes, _), push in zip(episodes, noise, strict=True):
        paid = world.words_weight * min(nodes[-1].words / 60.0, 1.0)
        score = None if nodes[-1].rubric is None else (1.0 - world.words_weight) * nodes[-1].rubric + paid
        scores.append(math.nan if score is None else min(max(score + world.noise * push, 0.0), 1.0))
    reasoning_PG = torch.tensor(scores, dtype=torch.float64).reshape(shape)
    is_there_PG = torch.tensor(luck >= world.missing_rate).reshape(shape)
    return episodes, {
        "outcome_PG": torch.tensor([nodes[-1].success for nodes, _ in episodes], dtype=torch.float64).reshape(shape),
        "outcome_range_P2": torch.tensor([[0.0, 1.0]], dtype=torch.float64).repeat(NUM_PROMPTS, 1),
        "outcome_valid_PG": torch.ones(shape, dtype=torch.bool),
        "reasoning_PG": reasoning_PG,
        "reasoning_valid_PG": is_there_PG & ~reasoning_PG.isnan(),
    }


def _update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    episodes: Sequence[tuple[list[Node], list[int]]],
    advantages_B: torch.Tensor,
    epsilon: float,
) -> None:
    decisions = [
        (node, choice, number)
        for number, (nodes, choices) in enumerate(episodes)
        for node, choice in zip(nodes[:-1], choices, strict=True)
    ]
    rows_N = torch.tensor([node.row for node, _, _ in decisions])
    choices_N1 = torch.tensor([[choice] for _, choice, _ in decisions])
    advantages_N = advantages_B[torch.tensor([number for _, _, number in decisions])]
    allowed_NA = torch.zeros(len(decisions), len(ACTIONS), dtype=torch.bool)
    for number, (node, _, _) in enumerate(decisions):
        allowed_NA[number, list(node.allowed)] = True
    old_logprobs_N = policy.logprobs(rows_N, allowed_NA).gather(1, choices_N1)[:, 0].detach()
    for _ in range(NUM_EPOCHS):
        logprobs_N = policy.logprobs(rows_N, allowed_NA).gather(1, choices_N1)[:, 0]
        loss, _ = clipped_surrogate(logprobs_N, old_logprobs_N, advantages_N, len(decisions), epsilon)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _run(job: dict[str, object]) -> dict[str, object]:
    torch.set_num_threads(1)
    return {**job, **learn(**job)}


def sweep(jobs: Sequence[dict[str, object]], file: Path, num_processes: int) -> list[dict[str, object]]:
    """Run the jobs that the file does not hold yet, append each as it ends, and return the lines of all jobs."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    known = {_key(line) for line in lines}
    todo = [job for job in jobs if _key(job) not in known]
    with ProcessPoolExecutor(num_processes) as pool, file.open("a", encoding="utf-8") as out:
        for number, future in enumerate(as_completed([pool.submit(_run, job) for job in todo]), 1):
            lines.append(future.result())
            out.write(json.dumps(lines[-1]) + "\n")
            out.flush()
            print(f"\r{number} of {len(todo)} runs", end="", file=sys.stderr, flush=True)
    wanted = {_key(job) for job in jobs}
    return [line for line in lines if _key(line) in wanted]


def _key(line: Mapping[str, object]) -> tuple[object, ...]:
    return tuple(line[name] for name in ("env_id", "preset", "variant", "setting", "rate", "seed", "steps"))


def table(lines: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Return a row for every variant and setting: means over seeds, at the learning rate that trained best."""
    by_cell: dict[tuple[str, str], dict[float, list[Mapping[str, object]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        by_cell[line["variant"], line["setting"]][line["rate"]].append(line)
    rows = []
    for (variant, setting), by_rate in by_cell.items():
        # Chosen on training tasks, shown on held-out ones.
        rate = max(by_rate, key=lambda rate: np.mean([line["train_last"] for line in by_rate[rate]]))
        runs = by_rate[rate]
        figures = {name: [run[name] for run in runs] for name in runs[0] if isinstance(runs[0][name], float)}
        row = {name: round(float(np.mean(values)), 4) for name, values in figures.items() if name != "rate"}
        error = float(np.std(figures["held_out"], ddof=1) / len(runs) ** 0.5) if len(runs) > 1 else None
        row["held_out_error"] = None if error is None else round(error, 4)
        rows.append({"variant": variant, "setting": setting, "rate": rate, "seeds": len(runs), **row})
    return rows


def main() -> None:
    """Run what is missing of the sweep and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="awpo/Retail-v0")
    parser.add_argument("--preset", default="quickstart")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.03, 0.1], help="learning rates, tuned alike")
    parser.add_argument("--seeds", type=int, default=2, help="seeds 0 to this (default %(default)s)")
    parser.add_argument("--steps", type=int, default=60, help="updates a run (default %(default)s)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "learning_explore.jsonl")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the table to FILE")
    args = parser.parse_args()
    jobs = [
        {
            "env_id": args.env,
            "preset": args.preset,
            "variant": variant,
            "setting": setting,
            "rate": rate,
            "seed": seed,
            "steps": args.steps,
        }
        for seed in range(args.seeds)
        for setting in args.settings
        for variant in args.variants
        for rate in args.rates
    ]
    rows = table(sweep(jobs, args.results, args.processes))
    print(f"\nheld-out success at the best rate (mean +- standard error over {args.seeds} seeds)\n")
    print("| variant | " + " | ".join(args.settings) + " |\n| --- |" + " --- |" * len(args.settings))
    cells = {(row["variant"], row["setting"]): row for row in rows}
    bases = [f"{cells[args.variants[0], setting]['base']:.1%}" for setting in args.settings]
    print("| *before training* | " + " | ".join(bases) + " |")
    for variant in args.variants:
        of_variant = [cells[variant, setting] for setting in args.settings]
        shown = [f"{row['held_out']:.1%} +- {row['held_out_error'] or 0:.1%}" for row in of_variant]
        print(f"| {variant} | " + " | ".join(shown) + " |")
    if args.json:
        settings = {name: dataclasses.asdict(setting) for name, setting in SETTINGS.items()}
        figures = {"command": " ".join(["python", *sys.argv]), "settings": settings, "rows": rows}
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The quickstart's control: the same run with advantages shuffled over the batch.

Everything else stays as it is (tasks, noise, judge, update sizes), so what rises here comes from something other than
the reward: a model whose likeliest message is better than its average one gains from any update that sharpens it.
Run: ``python benchmarks/control_shuffled.py --json benchmarks/results/control_shuffled.json``
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import torch

from awpo_agent.advantages import Advantages, awpo
from awpo_agent.arguments import parse_config
from awpo_agent.config import AWPOConfig
from awpo_agent.quickstart import CONFIG, evaluate
from awpo_agent.train import run


class ShuffledAWPO:
    """AWPO whose advantages are dealt to random episodes of the batch."""

    def __init__(self, config: AWPOConfig) -> None:
        self._switches = config.switches
        self._generator = torch.Generator().manual_seed(config.seed)

    def __call__(self, *tensors: torch.Tensor, epsilon: float, **named: torch.Tensor) -> Advantages:
        """See `awpo_agent.advantages.Estimator`."""
        right = awpo(*tensors, **named, epsilon=epsilon, switches=self._switches)
        order = torch.randperm(right.advantages_PG.numel(), generator=self._generator)
        parts = {name: getattr(right, name) for name in ("advantages_PG", "reasoning_part_PG")}
        shuffled = {name: part.flatten()[order].reshape(part.shape) for name, part in parts.items()}
        return dataclasses.replace(right, **shuffled)


def main() -> None:
    """Evaluate, train with shuffled advantages, evaluate again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    args, overrides = parser.parse_known_args()
    output = ["--output_dir", "runs/control_shuffled"]
    config, _ = parse_config(AWPOConfig, ["--config", CONFIG, *output, *overrides], "control", "shuffled advantages")
    before = {temperature: evaluate(config, config.model, temperature) for temperature in (1.0, 0.0)}
    checkpoint = run(config, estimator=ShuffledAWPO(config))
    after = {temperature: evaluate(config, str(checkpoint), temperature) for temperature in (1.0, 0.0)}
    for temperature in before:
        print(f"temperature {temperature:g}: before {before[temperature]}  after {after[temperature]}")
    if args.json:
        figures = {
            "command": " ".join(["python", *sys.argv]),
            "before": {str(t): dataclasses.asdict(e) for t, e in before.items()},
            "after": {str(t): dataclasses.asdict(e) for t, e in after.items()},
        }
        Path(args.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

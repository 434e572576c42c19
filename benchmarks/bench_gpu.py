"""How fast a model of real size trains on one accelerator: random weights, real episodes, bfloat16.

Each step plays a batch of episodes with the transformers engine and makes an update. Model FLOP utilisation counts two
operations a weight for each token forwarded and six for each token learnt from, against the peak of the device.

    python benchmarks/bench_gpu.py --json benchmarks/results/gpu.json
    python benchmarks/bench_gpu.py --hidden 64 --layers 2 --steps 1 --episodes 8     # small enough for a CPU
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from awpo_agent.advantages import Advantages, grpo
from awpo_agent.config import AWPOConfig
from awpo_agent.engines.hf import TransformersEngine
from awpo_agent.train import load_policy
from awpo_agent.trainer import AWPOTrainer
from awpo_env.catalogue import make
from awpo_env.judges.rubric import RubricJudge

from bench_env import describe_machine  # isort: skip  (this folder is on the path of a script)


def build_parser() -> argparse.ArgumentParser:
    """Return the command's flags; the model's defaults are the sizes of Qwen3-0.6B."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=1024, help="width of the hidden states (default 1024)")
    parser.add_argument("--layers", type=int, default=28, help="number of layers (default 28)")
    parser.add_argument("--vocabulary", type=int, default=151_936, help="number of logits (default 151936)")
    parser.add_argument("--steps", type=int, default=20, help="training steps; the first is not timed (default 20)")
    parser.add_argument("--episodes", type=int, default=64, help="episodes a step (default 64)")
    parser.add_argument("--peak-tflops", type=float, default=989.0, help="of the device, dense bfloat16 (H100: 989)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    args = build_parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        figures = {"command": " ".join(["bench_gpu.py", *argv]), "machine": describe_machine(), **measure(args, folder)}
    print(json.dumps(figures, indent=1))
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(args: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Train, and return figures of all steps but the first, which warms up."""
    model, tokenizer = make_model(args)
    config = AWPOConfig(
        env_kwargs={"preset": "quickstart"},
        output_dir=folder,
        generation_batch_size=args.episodes,
        max_length=1024,
        max_turn_length=96,
        max_steps=args.steps + 1,
        bf16=True,
        gradient_checkpointing=True,
        per_device_train_tokens=16_384,
        per_device_train_batch_size=64,
        advantage_estimator="grpo",
    )
    lines: list[dict[str, float]] = []
    ends: list[float] = []
    forwarded: list[int] = []
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def note(step: int, metrics: dict[str, float]) -> None:
        lines.append(dict(metrics))
        ends.append(time.perf_counter())
        forwarded.append(engine.stats.forward_tokens)

    make_env = functools.partial(make, config.env, **config.env_kwargs)
    parts = {"processing_class": tokenizer, "judge": RubricJudge(), "estimator": deal, "callbacks": [note]}
    trainer = AWPOTrainer(model, config, make_env, **parts)
    engine = trainer.engine
    assert isinstance(engine, TransformersEngine)
    trainer.train()
    seconds = ends[-1] - ends[0]
    learnt = sum(line["num_tokens"] for line in lines[1:])
    sampled = forwarded[-1] - forwarded[0]
    parameters = sum(weight.numel() for weight in model.parameters())
    # Checkpointed layers are computed a second time; utilisation does not count that, as is the custom.
    operations = parameters * (2 * sampled + 6 * learnt)
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "parameters": parameters,
        "steps": args.steps,
        "seconds_per_step": seconds / args.steps,
        "rollout_share": sum(line["rollout_time"] for line in lines[1:]) / seconds,
        "episode_tokens_per_second": learnt / seconds,
        "model_flop_utilisation": operations / seconds / (args.peak_tflops * 1e12),
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None,
        "loss": [line["loss"] for line in lines],
        "logprob_gap": [line["logprob_gap"] for line in lines],
    }


def deal(outcome_PG: torch.Tensor, *, epsilon: float, **rewards: torch.Tensor) -> Advantages:
    """Advantages of 1 and -1 in turn: a random model always fails, and no episode would have anything to teach."""
    got = grpo(outcome_PG, epsilon=epsilon, **rewards)
    ones_PG = torch.ones_like(outcome_PG)
    ones_PG[:, 1::2] = -1.0
    return replace(got, advantages_PG=ones_PG, trains_PG=torch.ones_like(got.trains_PG))


def make_model(args: argparse.Namespace) -> tuple[Qwen3ForCausalLM, AutoTokenizer]:
    """Return a random model of the wanted size, and the tokenizer that ships."""
    _, tokenizer = load_policy("base")
    config = Qwen3Config(
        vocab_size=max(args.vocabulary, len(tokenizer)),
        hidden_size=args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=max(2, args.hidden // 64),
        num_key_value_heads=max(1, args.hidden // 128),
        head_dim=min(128, args.hidden // 2),
        intermediate_size=3 * args.hidden,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    return Qwen3ForCausalLM(config), tokenizer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

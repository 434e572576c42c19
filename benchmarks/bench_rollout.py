"""Tokens per second of multi-turn rollouts: the transformers engine against `model.generate` called turn by turn.

Both sample the same number of tokens for the same conversations from the same model. The baseline is what a loop around
`generate` does: at every turn all conversations still going are padded on the left and forwarded whole. Tool results
answer at once. Two workloads: in `equal` all messages of a turn have the same length, which is the best case of the
baseline; in `varied` each has its own, and the baseline samples until the longest is done, as it would in training.

    python benchmarks/bench_rollout.py --random
    python benchmarks/bench_rollout.py --model my_model --conversations 128 --json benchmarks/results/rollout.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from awpo_agent.engines.base import Sampling
from awpo_agent.engines.hf import TransformersEngine


@dataclass(frozen=True, slots=True)
class Script:
    """One conversation: its prompt, and for each turn how many tokens are sampled and what the tool answers."""

    prompt: list[int]
    sampled: list[int]
    results: list[list[int]]

    def num_tokens(self) -> int:
        """Tokens of the whole conversation; the last message gets no tool result."""
        return len(self.prompt) + sum(self.sampled) + sum(map(len, self.results[: len(self.sampled) - 1]))


@dataclass(frozen=True, slots=True)
class Run:
    """What one rollout of all conversations took.

    Attributes:
        seconds: Process CPU time, on an accelerator wall-clock time.
        forward_tokens: Tokens forwarded, padding included.
    """

    seconds: float
    forward_tokens: int


def write_scripts(arguments: argparse.Namespace, vocabulary: int, is_varied: bool) -> list[Script]:
    """Draw the conversations; those of one group share their prompt, all prompts share the system message."""
    rng = random.Random(arguments.seed)

    def ids(low: int, high: int) -> list[int]:
        return [rng.randrange(vocabulary) for _ in range(rng.randint(low, high))]

    system = ids(*[arguments.system_tokens] * 2)
    turn_lengths = [rng.randint(*arguments.message_tokens) for _ in range(arguments.turns[1])]
    scripts = []
    for index in range(arguments.conversations):
        if index % arguments.group == 0:
            prompt = system + ids(*arguments.task_tokens)
        num_turns = rng.randint(*arguments.turns)
        varied = [rng.randint(*arguments.message_tokens) for _ in range(num_turns)]
        sampled = varied if is_varied else turn_lengths[:num_turns]
        scripts.append(Script(prompt, sampled, [ids(*arguments.tool_tokens) for _ in range(num_turns)]))
    return scripts


def run_engine(engine: TransformersEngine, scripts: list[Script]) -> int:
    """Play all conversations through the engine; return the number of tokens forwarded."""

    async def play(index: int, script: Script) -> None:
        history = list(script.prompt)
        for num_tokens, result in zip(script.sampled, script.results, strict=True):
            completion = await engine.generate(history, Sampling(num_tokens, stop_ids=(), key=(0, 0, index)))
            assert len(completion.ids) == num_tokens
            history += [*completion.ids, *result]
        engine.forget((0, 0, index))

    async def play_all() -> None:
        await asyncio.gather(*[play(index, script) for index, script in enumerate(scripts)])

    before = engine.stats.forward_tokens + engine.stats.padding_tokens
    engine.weights_changed()  # as after an optimiser step
    asyncio.run(play_all())
    return engine.stats.forward_tokens + engine.stats.padding_tokens - before


def run_baseline(model: PreTrainedModel, scripts: list[Script]) -> int:
    """Play all conversations with `generate`, turn by turn; return the number of tokens forwarded."""
    histories = [list(script.prompt) for script in scripts]
    forwarded = 0
    for turn in range(max(len(script.sampled) for script in scripts)):
        going = [index for index, script in enumerate(scripts) if turn < len(script.sampled)]
        width = max(len(histories[index]) for index in going)
        longest = max(scripts[index].sampled[turn] for index in going)
        padded_BT = [[0] * (width - len(histories[index])) + histories[index] for index in going]
        mask_BT = [[0] * (width - len(histories[index])) + [1] * len(histories[index]) for index in going]
        output_BT = model.generate(
            torch.tensor(padded_BT, device=model.device),
            attention_mask=torch.tensor(mask_BT, device=model.device),
            generation_config=GenerationConfig(
                do_sample=True,
                top_k=0,
                min_new_tokens=longest,
                max_new_tokens=longest,
                eos_token_id=model.generation_config.eos_token_id,
                pad_token_id=0,
            ),
        )
        assert output_BT.shape[1] == width + longest
        forwarded += len(going) * (width + longest - 1)
        for index, output in zip(going, output_BT[:, width:].tolist(), strict=True):
            histories[index] += output[: scripts[index].sampled[turn]] + scripts[index].results[turn]
    return forwarded


def timed(play: Callable[[], int], device: torch.device) -> Run:
    """Play once and take the time."""
    if device.type == "cpu":
        clock = time.process_time
    else:
        clock = time.perf_counter
        torch.accelerator.synchronize()
    start = clock()
    forwarded = play()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return Run(clock() - start, forwarded)


def compare(model: PreTrainedModel, scripts: list[Script], arguments: argparse.Namespace) -> dict:
    """Run both in turns and return the figures of each, and their ratio."""
    engine = TransformersEngine(model, max_rows=arguments.conversations)
    players = {
        "engine": lambda: run_engine(engine, scripts),
        "generate": lambda: run_baseline(model, scripts),
    }
    runs: dict[str, list[Run]] = {name: [] for name in players}
    for repeat in range(arguments.warm_up + arguments.runs):
        for name, play in players.items():
            run = timed(play, model.device)
            if repeat >= arguments.warm_up:
                runs[name].append(run)
    num_sampled = sum(sum(script.sampled) for script in scripts)
    num_tokens = sum(script.num_tokens() for script in scripts)
    figures = {
        name: {
            "tokens_per_s": num_sampled / statistics.median(run.seconds for run in runs[name]),
            "forward_tokens_per_sampled_token": runs[name][0].forward_tokens / num_sampled,
            "forward_tokens_per_conversation_token": runs[name][0].forward_tokens / num_tokens,
            "seconds": [run.seconds for run in runs[name]],
        }
        for name in players
    }
    ratios = [slow.seconds / fast.seconds for fast, slow in zip(runs["engine"], runs["generate"], strict=True)]
    return {
        "sampled_tokens": num_sampled,
        "conversation_tokens": num_tokens,
        **figures,
        "ratio": figures["engine"]["tokens_per_s"] / figures["generate"]["tokens_per_s"],
        "ratio_of_pairs_min_max": [min(ratios), max(ratios)],
    }


def load_model(arguments: argparse.Namespace) -> PreTrainedModel:
    """Return the model to sample from, in evaluation mode."""
    if arguments.random:
        torch.manual_seed(0)
        config = Qwen3Config(
            vocab_size=1024,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            eos_token_id=None,
        )
        model = Qwen3ForCausalLM(config)
    else:
        folder = arguments.model or str(files("awpo_agent") / "base_model")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, arguments.dtype))
    return model.to(arguments.device, getattr(torch, arguments.dtype)).eval()


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", help="folder of a model; default: the one shipped with awpo_agent")
    which.add_argument("--random", action="store_true", help="a random Qwen3 of 4 layers, width 128, vocabulary 1024")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workloads", nargs="+", default=["equal", "varied"], choices=["equal", "varied"])
    parser.add_argument("--conversations", type=int, default=64)
    parser.add_argument("--group", type=int, default=8, help="conversations that share a prompt")
    pair = {"type": int, "nargs": 2, "metavar": ("LOW", "HIGH")}
    parser.add_argument("--turns", default=[3, 5], **pair)
    parser.add_argument("--system-tokens", type=int, default=200, help="beginning common to all prompts")
    parser.add_argument("--task-tokens", default=[10, 40], help="rest of the prompt, by group", **pair)
    parser.add_argument("--message-tokens", default=[16, 64], help="sampled in each turn", **pair)
    parser.add_argument("--tool-tokens", default=[8, 64], help="of each tool result", **pair)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args()


def main() -> None:
    """Run both workloads, print a table, write the figures."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    model = load_model(arguments)
    print(f"{'workload':10}{'':10}{'new tokens/s':>14}{'fwd/new token':>15}{'fwd/conv. token':>17}{'ratio':>8}")
    results = {}
    for name in arguments.workloads:
        scripts = write_scripts(arguments, model.config.vocab_size, is_varied=name == "varied")
        results[name] = compare(model, scripts, arguments)
        for player in ("engine", "generate"):
            figures = results[name][player]
            ratio = f"{results[name]['ratio']:8.2f}" if player == "engine" else ""
            print(
                f"{name:10}{player:10}{figures['tokens_per_s']:14.0f}{figures['forward_tokens_per_sampled_token']:15.2f}"
                f"{figures['forward_tokens_per_conversation_token']:17.3f}{ratio}",
                flush=True,
            )
    if arguments.json:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
        versions = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        document = {"settings": settings, "versions": versions, "results": results}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()

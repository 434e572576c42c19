"""Supervised training on demonstrations, from scratch or from a checkpoint: how the base model that ships is made."""

from __future__ import annotations

import functools
import itertools
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import nn
from transformers import PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging

from awpo_agent.arguments import parse_config, show
from awpo_agent.chat import ChatTokens
from awpo_agent.checkpoint import write_folder
from awpo_agent.losses import check_output_layer, sampled_logprobs
from awpo_agent.tokenizer import SPECIAL_TAGS, train_tokenizer
from awpo_agent.train import load_policy
from awpo_env.errors import UsageError
from awpo_env.parsing import get_parser
from awpo_env.types import JSON, AssistantMessage, MalformedCall, ToolCall

_ROWS = 8  # sequences per forward pass: on a CPU what fits the cache is fastest; does not change the update
_TOKENIZER_EPISODES = 4000  # merges settle long before; more only costs time


@dataclass(frozen=True)
class SFTConfig:
    """Settings of supervised training.

    Attributes:
        data: Files of demonstrations, as ``awpo env export`` writes them.
        output_dir: The checkpoint folder to write, in Hugging Face format.
        model: A checkpoint folder, a hub name or ``base`` to start from; null makes a new Qwen3-architecture model and
            tokenizer.
        vocabulary_size: Tokens of a new tokenizer.
        hidden_size: Width of a new model.
        num_layers: Layers of a new model.
        num_heads: Attention heads of a new model.
        intermediate_size: Width of a new model's feed-forward part.
        max_length: Longest conversation in tokens; longer demonstrations are left out and counted.
        steps: Optimizer steps.
        batch_size: Demonstrations per step.
        all_tokens_steps: The first steps have loss on all tokens, later ones on the assistant's alone. A new model
            learns to copy from all of them; what is left to learn then is learned faster from the assistant's.
        window_steps: The first steps see random windows of the conversations instead of whole ones: attention finds
            what to copy far sooner among a hundred tokens than among five hundred.
        window_length: Tokens of such a window; four times `batch_size` windows make a step.
        learning_rate: Of Muon for the weight matrices, after a linear warm-up and before a cosine decay to a twentieth.
        embedding_learning_rate: Of AdamW for embeddings and norms, likewise.
        warmup_steps: Steps of the warm-up.
        template_options: Passed to the chat template.
        seed: Initial weights, order of the data, copy sequences.
    """

    data: list[str]
    output_dir: str
    model: str | None = None
    vocabulary_size: int = 1024
    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    intermediate_size: int = 384
    max_length: int = 640
    steps: int = 1000
    batch_size: int = 16
    all_tokens_steps: int = 500
    window_steps: int = 200
    window_length: int = 96
    learning_rate: float = 0.02
    embedding_learning_rate: float = 0.005
    warmup_steps: int = 20
    template_options: dict[str, Any] | None = None
    seed: int = 0


def main(argv: Sequence[str]) -> int:
    """Run ``awpo sft``."""
    config, is_dry_run = parse_config(SFTConfig, argv, "awpo sft", "Train a model on demonstrations.")
    if is_dry_run:
        show(config)
        return 0
    train(config)
    return 0


def train(config: SFTConfig) -> None:
    """Train and write the checkpoint folder; it appears whole or not at all."""
    logging.disable_progress_bar()
    torch.manual_seed(config.seed)
    episodes = _read(config.data)
    if config.model is not None:
        model, tokenizer = load_policy(config.model)
    else:
        tokenizer = _new_tokenizer(config, episodes)
        model = _new_model(config, tokenizer)
    check_output_layer(model)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    chat = ChatTokens(tokenizer, config.template_options)
    examples = [
        example for episode in episodes if len((example := encode_episode(chat, episode)).ids) <= config.max_length
    ]
    if not examples:
        raise UsageError(f"no demonstration fits into max_length {config.max_length}; expected some, raise it")
    if len(examples) < len(episodes):
        print(
            f"left out {len(episodes) - len(examples)} demonstrations over {config.max_length} tokens", file=sys.stderr
        )
    num_parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{num_parameters:,} parameters, {len(examples):,} demonstrations", file=sys.stderr)
    _fit(model, examples, config)
    write_folder(
        Path(config.output_dir), lambda folder: (model.save_pretrained(folder), tokenizer.save_pretrained(folder))
    )


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation or a part of one: token ids, and which of them carry loss."""

    ids: list[int]
    carries_loss: list[bool]

    def window(self, start: int, length: int) -> Example:
        """Return `length` tokens from `start` on."""
        return Example(self.ids[start : start + length], self.carries_loss[start : start + length])


def encode_episode(chat: ChatTokens, episode: dict[str, JSON]) -> Example:
    """Return a demonstration as the ids a rollout of the same words would have; the assistant's carry loss."""
    messages, parser = episode["messages"], get_parser("hermes")
    starts = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    ids = chat.prompt(messages[: starts[0]], episode["tools"])
    carries_loss = [False] * len(ids)
    for start, end in zip(starts, [*starts[1:], len(messages)], strict=True):
        said = chat.assistant(parser.format(_assistant(messages[start])))
        answered = chat.delta(messages[start + 1 : end]) if end < len(messages) else []
        ids += said + answered
        carries_loss += [True] * len(said) + [False] * len(answered)
    return Example(ids, carries_loss)


def _assistant(message: dict[str, JSON]) -> AssistantMessage:
    calls: list[ToolCall | MalformedCall] = []
    for call in message.get("tool_calls") or ():
        try:
            calls.append(ToolCall(call["function"]["name"], json.loads(call["function"]["arguments"])))
        except ValueError:
            calls.append(MalformedCall(call["function"]["arguments"], "as recorded"))
    return AssistantMessage(message.get("reasoning_content") or "", message.get("content") or "", tuple(calls))


def _read(paths: Sequence[str]) -> list[dict[str, JSON]]:
    episodes = []
    for path in paths:
        if not Path(path).is_file():
            raise UsageError(f"data file {path!r} does not exist; write one with 'awpo env export'")
        with open(path, encoding="utf-8") as file:
            episodes += [
                _demonstration(line, f"{path}:{number}") for number, line in enumerate(file, 1) if line.strip()
            ]
    return episodes


def _demonstration(line: str, where: str) -> dict[str, JSON]:
    try:
        episode = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{where} is no JSON ({error}); expected an object a line") from None
    if not isinstance(episode, dict) or not isinstance(episode.get("messages"), list):
        raise UsageError(f"{where} has no list 'messages'; expected a demonstration as 'awpo env export' writes them")
    if not any(message["role"] == "assistant" for message in episode["messages"]):
        raise UsageError(f"{where} has no message of an assistant, so nothing can be learnt from it; leave it out")
    return episode | {"tools": episode.get("tools") or []}


def _new_tokenizer(config: SFTConfig, episodes: Sequence[dict[str, JSON]]) -> PreTrainedTokenizerBase:
    # The template renders text, so a tokenizer has to exist before the texts it learns from do.
    blank = train_tokenizer([], 300)
    tag = re.compile("|".join(re.escape(text) for text in SPECIAL_TAGS))
    options = config.template_options or {}
    stride = max(1, len(episodes) // _TOKENIZER_EPISODES)
    texts = (
        piece
        for episode in episodes[::stride]
        for piece in tag.split(
            blank.apply_chat_template(episode["messages"], tools=episode["tools"], tokenize=False, **options)
        )
    )
    return train_tokenizer(texts, config.vocabulary_size)


def _new_model(config: SFTConfig, tokenizer: PreTrainedTokenizerBase) -> nn.Module:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_heads,
            head_dim=config.hidden_size // config.num_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _fit(model: nn.Module, data: Sequence[Example], config: SFTConfig) -> None:
    # Muon needs a third of AdamW's steps before a small model copies identifiers; it is made for hidden matrices only.
    matrices = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name]
    others = [weight for name, weight in model.named_parameters() if weight.ndim != 2 or "embed" in name]
    optimizers = (
        torch.optim.Muon(matrices, lr=config.learning_rate, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(others, lr=config.embedding_learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    )
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, functools.partial(_rate, config=config))
        for optimizer in optimizers
    ]
    rng = np.random.default_rng([config.seed, 2])
    batches, windows = _batches(data, config.batch_size, rng), _windows(data, config, rng)
    model.train()
    recent = 0.0
    for step in track(range(config.steps), description="sft", transient=True, disable=not sys.stderr.isatty()):
        examples = next(windows if step < config.window_steps else batches)
        loss = _backward(model, examples, on_all_tokens=step < config.all_tokens_steps)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        recent = loss if step == 0 else 0.95 * recent + 0.05 * loss
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{config.steps}  loss {recent:.4f}", file=sys.stderr, flush=True)


def _rate(step: int, config: SFTConfig) -> float:
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.05 + 0.475 * (1.0 + float(np.cos(np.pi * progress)))


def _batches(examples: Sequence[Example], size: int, rng: np.random.Generator) -> Iterator[list[Example]]:
    """Endless passes over the data in random order; inside a window neighbours in length share a batch."""
    while True:
        order = rng.permutation(len(examples))
        for start in range(0, len(order), size * 16):
            window = sorted(order[start : start + size * 16], key=lambda index: len(examples[index].ids))
            chunks = [window[at : at + size] for at in range(0, len(window), size)]
            for chunk in rng.permutation(len(chunks)):
                yield [examples[index] for index in chunks[chunk]]


def _windows(examples: Sequence[Example], config: SFTConfig, rng: np.random.Generator) -> Iterator[list[Example]]:
    """Endless batches of random windows; what all conversations begin with alike is left out."""
    ids, length = [example.ids for example in examples], config.window_length
    # A window has a token to predict, and one to predict it from, however much all have in common.
    shared = max(0, min(_length_of_common_start(ids), min(map(len, ids)) - 2))
    while True:
        chosen = [examples[index] for index in rng.integers(len(examples), size=4 * config.batch_size)]
        starts = [int(rng.integers(shared, max(shared + 1, len(example.ids) - length))) for example in chosen]
        yield [example.window(start, length) for example, start in zip(chosen, starts, strict=True)]


def _length_of_common_start(sequences: Sequence[list[int]]) -> int:
    # All sequences share what the least and the greatest of them share.
    pairs = zip(min(sequences), max(sequences), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _backward(model: nn.Module, examples: Sequence[Example], on_all_tokens: bool) -> float:
    """Accumulate the gradient of the mean loss over the assistant's tokens, or over all of them; return that loss."""
    if on_all_tokens:
        examples = [Example(example.ids, [True] * len(example.ids)) for example in examples]
    num_tokens = max(1, sum(sum(example.carries_loss[1:]) for example in examples))
    total = 0.0
    for start in range(0, len(examples), _ROWS):
        part = examples[start : start + _ROWS]
        shape = (len(part), max(len(example.ids) for example in part))
        ids_BT = torch.zeros(shape, dtype=torch.long, device=model.device)
        carries_loss_BT = torch.zeros(shape, dtype=torch.bool, device=model.device)
        for row, example in enumerate(part):
            ids_BT[row, : len(example.ids)] = torch.tensor(example.ids)
            carries_loss_BT[row, : len(example.ids)] = torch.tensor(example.carries_loss)
        logprobs_N, _ = sampled_logprobs(model, ids_BT, carries_loss_BT, temperature=1.0)
        loss = -logprobs_N.sum()
        (loss / num_tokens).backward()
        total += loss.item()
    return total / num_tokens

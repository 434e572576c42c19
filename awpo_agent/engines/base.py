"""What every engine is: token ids in, sampled token ids and their log-probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import nn

from awpo_env.errors import AwpoError, UsageError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to continue one conversation.

    Attributes:
        max_tokens: Most tokens to sample in this turn, at least 1.
        stop_ids: Sampling ends with the first of these ids; it is part of the completion.
        key: (seed, step, episode): names the conversation. Noise is a pure function of the key and the position of the
            token in the conversation, so which episodes share a batch does not change the draws; and an engine that
            keeps the attention state of earlier turns keeps it under this key.
        temperature: 0 is greedy; otherwise logits are divided by it.
        top_k: Keep only the k likeliest tokens; 0 keeps all.
        top_p: Keep the smallest set of likeliest tokens whose probability reaches top_p, in (0, 1].
    """

    max_tokens: int
    stop_ids: tuple[int, ...]
    key: tuple[int, int, int]
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Completion:
    """What was sampled.

    Attributes:
        ids: Sampled token ids, the stop id included.
        logprobs: Log-probability of each id under the distribution it was drawn from (temperature and filters applied;
            for greedy decoding: at temperature 1, unfiltered). Natural logarithm, same length as `ids`.
        finish_reason: ``stop`` when a stop id was sampled, ``length`` when max_tokens ended it.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length"]

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.logprobs), "one log-probability per sampled token"


class Engine(Protocol):
    """Whoever can continue token ids; each episode is a coroutine that awaits it, and the engine batches who waits."""

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Sample a continuation of `prompt_ids` (the whole conversation so far)."""
        ...


class EngineFailure(AwpoError):
    """An engine cannot go on through no fault of the caller: a server stays away, or answers what it must not."""


def check_length(max_length: int, model: nn.Module) -> None:
    """Raise UsageError when conversations may outgrow the model's positions."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise UsageError(f"max_length is {max_length}, but the model has only {positions} positions; lower it")


def check_request(prompt_ids: Sequence[int], sampling: Sampling, max_length: int) -> None:
    """Raise UsageError if no token of this turn can be sampled in a conversation of at most `max_length` tokens."""
    if len(prompt_ids) == 0:
        raise UsageError("the prompt has no tokens, expected at least 1; start the conversation with a token")
    if len(prompt_ids) >= max_length:
        raise UsageError(
            f"the prompt has {len(prompt_ids)} tokens, expected fewer than max_length={max_length}; shorten "
            "the conversation or raise max_length"
        )
    if sampling.max_tokens < 1:
        raise UsageError(f"max_tokens is {sampling.max_tokens}, expected at least 1; end the episode instead")

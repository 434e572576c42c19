"""What every engine is: token ids in, sampled token ids and their log-probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


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

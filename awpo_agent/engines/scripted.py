"""Engine that replies from a script: for tests, examples, and trying an environment without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from awpo_agent.engines.base import Completion, Sampling
from awpo_env.errors import UsageError

Reply = Callable[[Sequence[int], Sampling], Sequence[int]]


class ScriptedEngine:
    """Reply with what a function returns, or with one list of ids after the other.

    A reply that does not hold a stop id gets the first one appended if there is room, as a model that ends its message
    would; what follows a stop id, or exceeds `max_tokens`, is cut. Log-probabilities are 0.

    Args:
        replies: A function of (prompt_ids, sampling), or the replies in the order in which they are asked for.

    Attributes:
        calls: (prompt_ids, sampling) of every call so far.

    >>> import asyncio
    >>> engine = ScriptedEngine([[5, 6]])
    >>> asyncio.run(engine.generate([1, 2], Sampling(max_tokens=8, stop_ids=(0,), key=(0, 0, 0)))).ids
    (5, 6, 0)
    """

    def __init__(self, replies: Reply | Iterable[Sequence[int]]) -> None:
        self._reply = replies if callable(replies) else _in_order(tuple(replies))
        self.calls: list[tuple[tuple[int, ...], Sampling]] = []

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Return the scripted continuation of `prompt_ids`."""
        self.calls.append((tuple(prompt_ids), sampling))
        ids = list(self._reply(prompt_ids, sampling))
        stop = next((index for index, token in enumerate(ids) if token in sampling.stop_ids), None)
        if stop is None:
            stop = len(ids)
            ids += sampling.stop_ids[:1]
        ids = ids[: stop + 1][: sampling.max_tokens]
        is_stopped = bool(ids) and ids[-1] in sampling.stop_ids
        return Completion(tuple(ids), (0.0,) * len(ids), "stop" if is_stopped else "length")

    def forget(self, key: tuple[int, int, int]) -> None:
        """Nothing is kept."""

    def weights_changed(self) -> None:
        """There are no weights."""


def _in_order(replies: tuple[Sequence[int], ...]) -> Reply:
    remaining = iter(replies)

    def reply(prompt_ids: Sequence[int], sampling: Sampling) -> Sequence[int]:
        try:
            return next(remaining)
        except StopIteration:
            raise UsageError(
                f"the script has {len(replies)} replies and one more was asked for; add replies or pass a function"
            ) from None

    return reply

"""Engine that samples from a Hugging Face model in process: the very module that is being trained, on CPU or GPU.

Whoever waits is sampled together, one token per conversation and step. A conversation keeps its row of attention state
between turns, so that only what is new is forwarded; conversations that begin alike share the forward pass of their
common beginning. Compute runs in steps, and between two steps every other coroutine may run.

Admission rule: waiting conversations join as soon as they are at least half as many as those being sampled. Of the
shares tried, from 1/100 to 2, a quarter to a half needs the fewest forward passes: joining at once spends a pass on one
or two prompts again and again, joining late decodes a thin batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
from torch import nn

from awpo_agent.engines.base import Completion, Sampling, check_length, check_request
from awpo_agent.engines.row_batch import EngineStats, RowBatch
from awpo_agent.engines.row_table import Key
from awpo_env.errors import UsageError

_ADMIT_SHARE = 0.5  # see the admission rule above


@dataclass(slots=True, eq=False)
class _Request:
    prompt: np.ndarray
    sampling: Sampling
    stop_ids: frozenset[int]
    limit: int  # the completion ends when the conversation is this long
    future: asyncio.Future[Completion]

    @property
    def key(self) -> Key:
        return self.sampling.key


class TransformersEngine:
    """Sample from `model`, many conversations at a time.

    Args:
        model: A decoder-only causal language model with full attention (``sdpa`` or ``eager``). It is put into
            evaluation mode while conversations are sampled, and then back as it was.
        max_rows: Most conversations kept at a time, those between two turns included. When they do not suffice, the one
            that has been idle longest is dropped, and prefilled again if it comes back.
        max_length: Longest conversation in tokens; completions end there with ``length``. By default the model's limit.
        prefill_tokens: Most tokens of one forward pass over prompts, padding included; bounds its memory.
        autocast: Makes the context of each forward pass, where the model is trained in mixed precision.

    Attributes:
        stats: Counters, see `EngineStats`.

    Raises:
        UsageError: A number is below 1, or `max_length` beyond the model's positions, or attention is of another kind.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        max_rows: int = 128,
        max_length: int | None = None,
        prefill_tokens: int = 4096,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        if max_length is None:
            max_length = model.config.max_position_embeddings
        for name, value in (("max_rows", max_rows), ("max_length", max_length), ("prefill_tokens", prefill_tokens)):
            if value < 1:
                raise UsageError(f"{name} is {value}, expected at least 1; pass a positive number")
        check_length(max_length, model)
        _check_attention(model.config, max_length)
        self.model = model
        self.max_rows = max_rows
        self.max_length = max_length
        self._batch = RowBatch(model, max_rows, max_length, prefill_tokens, autocast)
        self._waiting: list[_Request] = []
        self._active: list[_Request] = []  # the one at index i is sampled in row i
        self._unanswered: dict[Key, _Request] = {}
        self._loop_task: asyncio.Task[None] | None = None
        self._num_admissions = 0

    @property
    def stats(self) -> EngineStats:
        """Counters since the engine was made."""
        return self._batch.stats

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Sample a continuation of `prompt_ids`, the whole conversation so far.

        Raises:
            UsageError: The prompt is empty or too long, no token may be sampled, or the conversation `sampling.key` is
                being sampled already.
        """
        check_request(prompt_ids, sampling, self.max_length)
        if sampling.key in self._unanswered and not self._unanswered[sampling.key].future.done():
            raise UsageError(f"conversation {sampling.key} is being sampled already; await it or use another key")
        loop = asyncio.get_running_loop()
        request = _Request(
            prompt=np.asarray(prompt_ids, dtype=np.int64),
            sampling=sampling,
            stop_ids=frozenset(sampling.stop_ids),
            limit=min(len(prompt_ids) + sampling.max_tokens, self.max_length),
            future=loop.create_future(),
        )
        self._waiting.append(request)
        self._unanswered[request.key] = request
        if self._loop_task is None or self._loop_task.done() or self._loop_task.get_loop() is not loop:
            self._loop_task = loop.create_task(self._run())
        try:
            return await request.future
        finally:
            if self._unanswered.get(request.key) is request:
                del self._unanswered[request.key]

    def forget(self, key: Key) -> None:
        """Free the row of a conversation that has ended; an unknown key is no mistake."""
        self._batch.table.forget(key)

    def weights_changed(self) -> None:
        """Drop the attention state of every conversation; call it after each change of the model's weights.

        Raises:
            UsageError: A conversation is being sampled.
        """
        if self._active:
            raise UsageError(
                f"the weights changed while {len(self._active)} conversations were being sampled, which would mix two "
                "policies in one completion; await their generate() first"
            )
        self._batch.clear()

    # ---- the loop

    async def _run(self) -> None:
        try:
            with _evaluating(self.model):
                while self._waiting or self._active:
                    await self._settle()
                    self._drop_cancelled()
                    if self._should_admit():
                        await self._admit()
                    if self._active:
                        self._answer(*self._batch.decode(len(self._active)))
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise

    async def _settle(self) -> None:
        """Let other coroutines run until no further one asks, so that those who answer at once are batched together."""
        num_waiting = -1
        while num_waiting != len(self._waiting):
            num_waiting = len(self._waiting)
            await asyncio.sleep(0)

    def _should_admit(self) -> bool:
        has_room = len(self._active) < self.max_rows
        return has_room and len(self._waiting) >= max(1, _ADMIT_SHARE * len(self._active))

    async def _admit(self) -> None:
        """Give rows to waiting conversations and prefill what their rows lack."""
        table, num_active = self._batch.table, len(self._active)
        self._num_admissions += 1
        # Conversations under way come first: whoever holds a row should finish and free it.
        self._waiting.sort(key=lambda request: request.key not in table.row_of)
        room = self.max_rows - num_active
        joining, self._waiting = self._waiting[:room], self._waiting[room:]
        rows = table.take([request.key for request in joining], num_active, {request.key for request in self._waiting})
        for row, request in zip(rows, joining, strict=True):
            table.begin_turn(row, request.prompt, request.sampling, self._num_admissions)
        self._batch.gather([*range(num_active), *rows])
        joining.sort(key=lambda request: table.row_of[request.key])
        self._active += joining
        ends = {table.row_of[request.key]: len(request.prompt) - 1 for request in joining}
        for _ in self._batch.prefill(ends):
            await asyncio.sleep(0)

    def _answer(self, ids: list[int], lengths: list[int]) -> None:
        """Answer the conversations whose last token ends their turn; the others stay active."""
        table, going_on = self._batch.table, []
        for row, (request, last, length) in enumerate(zip(self._active, ids, lengths, strict=True)):
            is_stopped = last in request.stop_ids
            if not is_stopped and length < request.limit:
                going_on.append(row)
            elif not request.future.done():
                new = slice(len(request.prompt), length)
                completion = Completion(
                    ids=tuple(table.ids_RT[row, new].tolist()),
                    logprobs=tuple(table.logprobs_RT[row, new].tolist()),
                    finish_reason="stop" if is_stopped else "length",
                )
                request.future.set_result(completion)
        self._keep_active(going_on)

    def _keep_active(self, rows: list[int]) -> None:
        if len(rows) < len(self._active):
            for new, old in self._batch.gather(rows):
                self._active[new] = self._active[old]
            del self._active[len(rows) :]

    def _drop_cancelled(self) -> None:
        self._waiting = [request for request in self._waiting if not request.future.done()]
        self._keep_active([row for row, request in enumerate(self._active) if not request.future.done()])

    def _fail(self, error: BaseException) -> None:
        self._active, self._waiting = [], []
        self._batch.reset()
        for request in self._unanswered.values():
            if request.future.done():
                continue
            if isinstance(error, Exception):
                request.future.set_exception(error)
            else:
                request.future.cancel()


def _check_attention(config, max_length: int) -> None:
    if config._attn_implementation not in ("sdpa", "eager"):
        raise UsageError(
            f"the model's attention is {config._attn_implementation!r}, but the transformers engine needs masks that "
            "only 'sdpa' and 'eager' take; load the model with attn_implementation='sdpa'"
        )
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
    is_within = kinds <= {"full_attention", "sliding_attention"} and window is not None and max_length <= window
    if kinds != {"full_attention"} and not is_within:
        raise UsageError(
            f"the model has {sorted(kinds)} layers and a sliding window of {window}, but the transformers engine knows "
            "full attention only; pass a max_length within the window or use another engine"
        )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True

"""Engine that samples from a Hugging Face model in process: the very module that is being trained, on CPU or GPU.

Whoever waits is sampled together, one token per conversation and step. A conversation keeps its row of attention state
between turns, so that only what is new is forwarded; conversations that start alike share the forward pass of their
common beginning.

Admission rule: waiting conversations join as soon as they are at least half as many as those being sampled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from awpo_agent.engines.base import Completion, Sampling
from awpo_agent.engines.draw import draw
from awpo_agent.engines.kv_rows import KVRows
from awpo_agent.engines.noise import noise_state, uniform
from awpo_agent.engines.prefill import next_pass, plan_waves
from awpo_agent.engines.row_table import Key, RowTable
from awpo_env.errors import UsageError

_ADMIT_SHARE = 0.5  # waiting conversations join when they are this share of the active ones


@dataclass(slots=True)
class EngineStats:
    """What the engine has done since it was made; set fields to 0 to count anew.

    Attributes:
        forward_tokens: Tokens forwarded, without padding.
        padding_tokens: Padding forwarded beside them.
        sampled_tokens: Tokens sampled.
        decode_steps: Forward passes that sampled one token for each active conversation.
        prefill_passes: Forward passes over prompts.
        shared_tokens: Prompt tokens copied from another conversation instead of forwarded.
        reprefilled_tokens: Prompt tokens forwarded again because their attention state was lost.
    """

    forward_tokens: int = 0
    padding_tokens: int = 0
    sampled_tokens: int = 0
    decode_steps: int = 0
    prefill_passes: int = 0
    shared_tokens: int = 0
    reprefilled_tokens: int = 0


@dataclass(slots=True, eq=False)
class _Request:
    prompt: np.ndarray
    sampling: Sampling
    future: asyncio.Future[Completion]
    stop_ids: frozenset[int]
    limit: int


class TransformersEngine:
    """Sample from `model`; see the module's docstring.

    Args:
        model: A decoder-only causal language model with full attention (``sdpa`` or ``eager``). It is put into
            evaluation mode while conversations are sampled, and back as it was.
        max_rows: Most conversations kept at a time, those between two turns included. When they do not suffice, the one
            that has been idle longest is dropped and prefilled again if it comes back.
        max_length: Longest conversation in tokens; completions end there with ``length``. By default the model's limit.
        prefill_tokens: Most tokens of one forward pass over prompts, padding included; bounds its memory.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        max_rows: int = 128,
        max_length: int | None = None,
        prefill_tokens: int = 4096,
    ) -> None:
        self.model = model
        self.max_length = max_length or model.config.max_position_embeddings
        self.prefill_tokens = prefill_tokens
        self.max_rows = max_rows
        self.stats = EngineStats()
        self._check()
        self._decoder = model.get_decoder()
        self._waiting: list[_Request] = []
        self._active: list[_Request] = []  # the one at index i is sampled in row i
        self._pending: dict[Key, _Request] = {}
        self._loop_task: asyncio.Task[None] | None = None
        self._admissions = 0
        self._forget_everything()

    def _check(self) -> None:
        config = self.model.config
        for name in ("max_rows", "max_length", "prefill_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least 1; pass a positive number")
        attention = config._attn_implementation
        if attention not in ("sdpa", "eager"):
            raise UsageError(
                f"the model's attention is {attention!r}, but the transformers engine needs masks that only 'sdpa' and "
                "'eager' take; load the model with attn_implementation='sdpa'"
            )
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        window = getattr(config, "sliding_window", None)
        if kinds == {"full_attention"} and getattr(config, "layer_types", None):
            window = None
        if kinds - {"full_attention", "sliding_attention"} or (window and window < self.max_length):
            raise UsageError(
                f"the model has {sorted(kinds)} layers and a sliding window of {window}, but the transformers engine "
                "knows full attention only; pass a max_length within the window or use another engine"
            )

    # ---- what callers use

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Sample a continuation of `prompt_ids`, the whole conversation so far.

        Raises:
            UsageError: The prompt is empty or too long, no token may be sampled, or the conversation `sampling.key` is
                being sampled already.
        """
        self._check_request(prompt_ids, sampling)
        loop = asyncio.get_running_loop()
        request = _Request(
            prompt=np.asarray(prompt_ids, dtype=np.int64),
            sampling=sampling,
            future=loop.create_future(),
            stop_ids=frozenset(sampling.stop_ids),
            limit=min(len(prompt_ids) + sampling.max_tokens, self.max_length),
        )
        self._waiting.append(request)
        self._pending[sampling.key] = request
        if self._loop_task is None or self._loop_task.done() or self._loop_task.get_loop() is not loop:
            self._loop_task = loop.create_task(self._run())
        try:
            return await request.future
        finally:
            del self._pending[sampling.key]

    def forget(self, key: Key) -> None:
        """Free the row of a conversation that has ended; an unknown key is no mistake."""
        self._table.release(key)
        self._reached.pop(key, None)

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
        self._forget_everything()

    def _check_request(self, prompt_ids: Sequence[int], sampling: Sampling) -> None:
        if len(prompt_ids) == 0:
            raise UsageError("the prompt has no tokens, expected at least 1; start the conversation with a token")
        if len(prompt_ids) >= self.max_length:
            raise UsageError(
                f"the prompt has {len(prompt_ids)} tokens, expected fewer than max_length={self.max_length}; shorten "
                "the conversation or raise max_length"
            )
        if sampling.max_tokens < 1:
            raise UsageError(f"max_tokens is {sampling.max_tokens}, expected at least 1; end the episode instead")
        if sampling.key in self._pending:
            raise UsageError(f"conversation {sampling.key} is being sampled already; await it or use another key")

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
                        self._decode()
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

    def _drop_cancelled(self) -> None:
        self._waiting = [request for request in self._waiting if not request.future.done()]
        self._keep_active([row for row, request in enumerate(self._active) if not request.future.done()])

    def _fail(self, error: BaseException) -> None:
        requests = self._active + self._waiting
        self._active, self._waiting = [], []
        self._forget_everything()
        for request in requests:
            if request.future.done():
                continue
            if isinstance(error, Exception):
                request.future.set_exception(error)
            else:
                request.future.cancel()

    def _forget_everything(self) -> None:
        self._table = RowTable(self.max_rows)
        self._cache = KVRows(self.max_rows, self.max_length)
        self._reached: dict[Key, int] = {}

    # ---- joining and leaving the batch

    def _should_admit(self) -> bool:
        has_room = len(self._active) < self.max_rows
        return has_room and len(self._waiting) >= max(1, _ADMIT_SHARE * len(self._active))

    async def _admit(self) -> None:
        """Give rows to waiting conversations and prefill what their rows lack."""
        table = self._table
        self._admissions += 1
        # Conversations under way come first: whoever holds a row should finish and free it.
        self._waiting.sort(key=lambda request: request.sampling.key not in table.row_of)
        room = self.max_rows - len(self._active)
        joining, self._waiting = self._waiting[:room], self._waiting[room:]
        spared = {request.sampling.key for request in joining}
        wanted = {request.sampling.key for request in self._waiting}
        placed: dict[int, _Request] = {}
        for request in joining:
            placed[table.take(request.sampling.key, len(self._active), spared, wanted)] = request
        self._cache.reserve_rows(max(placed) + 1)
        for hole, stray in self._gather([*range(len(self._active)), *placed]):
            placed[hole] = placed.pop(stray)
        for row in sorted(placed):
            self._place(row, placed[row])
        self._active += [placed[row] for row in sorted(placed)]
        await self._prefill(sorted(placed))

    def _place(self, row: int, request: _Request) -> None:
        sampling, state = request.sampling, self._table.state_R[row]
        self._table.write_prompt(row, request.prompt)
        state["used"] = self._admissions
        state["noise"] = noise_state(*sampling.key)
        state["temperature"], state["top_k"], state["top_p"] = sampling.temperature, sampling.top_k, sampling.top_p

    def _gather(self, rows: list[int]) -> list[tuple[int, int]]:
        """Bring `rows` to the front, where a decode step reads them without a copy; return (new, old) of each moved."""
        holes, strays = self._table.gather(rows)
        if holes:
            self._cache.swap(holes, strays, int(self._table.state_R["kept"][holes + strays].max()))
        return list(zip(holes, strays, strict=True))

    def _keep_active(self, rows: list[int]) -> None:
        if len(rows) < len(self._active):
            for new, old in self._gather(rows):
                self._active[new] = self._active[old]
            del self._active[len(rows) :]

    # ---- compute

    async def _prefill(self, rows: list[int]) -> None:
        """Forward every new prompt but its last token, which the first decode step takes."""
        kept_R, stats = self._table.state_R["kept"], self.stats
        ends = {row: len(self._active[row].prompt) - 1 for row in rows}
        for wave in plan_waves(self._table, ends):
            if wave.copies:
                sources, targets, lengths = map(list, zip(*wave.copies, strict=True))
                self._cache.copy(sources, targets, max(lengths))
                kept_R[targets] = lengths
                stats.shared_tokens += sum(lengths)
            for row in wave.rows:
                known = self._reached.get(self._active[row].sampling.key, 0)
                stats.reprefilled_tokens += max(0, min(known, ends[row]) - int(kept_R[row]))
            while missing := {row: ends[row] - int(kept_R[row]) for row in wave.rows if ends[row] > kept_R[row]}:
                chosen, longest = next_pass(missing, self.prefill_tokens)
                taken = [min(missing[row], longest) for row in chosen]
                self._forward(self._decoder, np.array(chosen), longest)
                kept_R[chosen] += taken
                stats.prefill_passes += 1
                stats.forward_tokens += sum(taken)
                stats.padding_tokens += len(chosen) * longest - sum(taken)
                await asyncio.sleep(0)

    @torch.no_grad()
    def _decode(self) -> None:
        """Sample one token for each active conversation and answer those that are done."""
        table, num_rows = self._table, len(self._active)
        state_B, rows_B = table.state_R[:num_rows], np.arange(num_rows)
        logits_BV = self._forward(self.model, slice(num_rows), 1).logits[:, -1]
        position_B = state_B["kept"] + 1
        noise_B = uniform(state_B["noise"], position_B)
        ids_B, logprobs_B = draw(logits_BV, noise_B, state_B["temperature"], state_B["top_k"], state_B["top_p"])
        table.reserve(int(position_B.max()) + 1)
        table.ids_RT[rows_B, position_B] = ids_B = ids_B.cpu().numpy()
        table.logprobs_RT[rows_B, position_B] = logprobs_B.cpu().numpy()
        state_B["kept"] = position_B
        self.stats.decode_steps += 1
        self.stats.forward_tokens += num_rows
        self.stats.sampled_tokens += num_rows
        self._answer(ids_B.tolist(), (position_B + 1).tolist())

    def _answer(self, ids: list[int], lengths: list[int]) -> None:
        going_on = []
        for row, (request, last, length) in enumerate(zip(self._active, ids, lengths, strict=True)):
            is_stopped = last in request.stop_ids
            if not is_stopped and length < request.limit:
                going_on.append(row)
                continue
            new = slice(len(request.prompt), length)
            completion = Completion(
                ids=tuple(self._table.ids_RT[row, new].tolist()),
                logprobs=tuple(self._table.logprobs_RT[row, new].tolist()),
                finish_reason="stop" if is_stopped else "length",
            )
            if request.sampling.key in self._table.row_of:
                self._reached[request.sampling.key] = length - 1
            if not request.future.done():
                request.future.set_result(completion)
        self._keep_active(going_on)

    @torch.no_grad()  # not inference_mode: buffers a model makes on the way must stay usable in training
    def _forward(self, module: nn.Module, rows: slice | np.ndarray, num_tokens: int):
        """Forward the next `num_tokens` tokens of `rows` through `module`, and keep their state."""
        start_B1 = self._table.state_R["kept"][rows][:, None]
        position_BT = start_B1 + np.arange(num_tokens)
        longest = int(start_B1.max()) + num_tokens
        self._table.reserve(longest)
        self._cache.reserve_length(longest)
        rows_B1 = np.arange(self.max_rows)[rows][:, None]
        device, dtype = self.model.device, self.model.dtype
        ids_BT = torch.from_numpy(self._table.ids_RT[rows_B1, position_BT]).to(device)
        position_BT = torch.from_numpy(position_BT).to(device)
        is_later_B1TL = torch.arange(longest, device=device) > position_BT[:, None, :, None]
        rows = rows if isinstance(rows, slice) else torch.from_numpy(rows).to(device)
        self._cache.select(rows, position_BT, longest)
        return module(
            input_ids=ids_BT,
            attention_mask=is_later_B1TL.to(dtype) * torch.finfo(dtype).min,
            position_ids=position_BT.clamp(max=self.max_length - 1),
            past_key_values=self._cache,
            use_cache=True,
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

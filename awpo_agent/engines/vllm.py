"""Engine that samples with vLLM inside this process; the weights it samples with are pushed, never read from disk."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from awpo_agent.engines.base import Completion, Sampling, check_request
from awpo_agent.engines.noise import request_seed
from awpo_agent.engines.vllm_process import computing, start_vllm
from awpo_agent.policy import plain_weights
from awpo_env.errors import UsageError

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams


class VLLMEngine:
    """Sample from `model` with vLLM, many conversations at a time, in this process and on its device.

    vLLM starts with random weights and the module's configuration; the module's own weights are pushed before the first
    token is sampled and after every `weights_changed`. Compute runs in steps, and between two steps every other
    coroutine may run. There is nothing here that could be waited for in vain, and so no time-out.

    Args:
        model: A Hugging Face causal language model of a kind vLLM knows.
        max_rows: Most conversations sampled at a time; others wait.
        max_length: Longest conversation in tokens; completions end there with ``length``. By default the model's limit.
        dtype: vLLM's; by default the module's.
        gpu_memory_utilization: Share of the GPU's memory for vLLM's weights and cache, in (0, 1]. On a CPU the cache is
            as large as `max_rows` conversations need.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        max_rows: int = 128,
        max_length: int | None = None,
        dtype: torch.dtype | None = None,
        gpu_memory_utilization: float = 0.3,
    ) -> None:
        self.model = model
        self.max_length = max_length or model.config.max_position_embeddings
        with tempfile.TemporaryDirectory() as folder:
            model.config.save_pretrained(folder)
            self._vllm = start_vllm(
                folder,
                model.config,
                max_rows=max_rows,
                max_length=self.max_length,
                dtype=dtype or model.dtype,
                gpu_memory_utilization=gpu_memory_utilization,
                load_format="dummy",
                skip_tokenizer_init=True,
                generation_config="vllm",
                logprobs_mode="processed_logprobs",
            )
        self._version = 1
        self._pushed: int | None = None
        self._numbers = itertools.count()
        self._unanswered: dict[str, asyncio.Future[RequestOutput]] = {}
        self._loop_task: asyncio.Task[None] | None = None

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Sample a continuation of `prompt_ids`, the whole conversation so far.

        Raises:
            UsageError: The prompt is empty or too long, or no token may be sampled.
        """
        check_request(prompt_ids, sampling, self.max_length)
        if self._pushed != self._version:
            self._push()
        loop = asyncio.get_running_loop()
        name, future = str(next(self._numbers)), loop.create_future()
        prompt: Any = {"prompt_token_ids": list(prompt_ids)}
        self._vllm.add_request(name, prompt, self._parameters(prompt_ids, sampling))
        self._unanswered[name] = future
        if self._loop_task is None or self._loop_task.done() or self._loop_task.get_loop() is not loop:
            self._loop_task = loop.create_task(self._run())
        try:
            (output,) = (await future).outputs
        finally:
            if self._unanswered.pop(name, None) is not None:
                self._vllm.abort_request([name])
        return Completion(
            ids=tuple(output.token_ids),
            logprobs=tuple(
                position[token].logprob for position, token in zip(output.logprobs, output.token_ids, strict=True)
            ),
            finish_reason="stop" if output.finish_reason == "stop" else "length",
        )

    def weights_changed(self) -> None:
        """Push the module's weights; call it after each change of them.

        Should it fail midway, vLLM is left with weights of two versions; the next call of `generate` pushes them again.

        Raises:
            UsageError: A conversation is being sampled.
        """
        if self._unanswered:
            raise UsageError(
                f"the weights changed while {len(self._unanswered)} conversations were being sampled, which would mix "
                "two policies in one completion; await their generate() first"
            )
        self._version += 1
        self._push()

    def close(self) -> None:
        """End vLLM; may be called twice."""
        self._vllm.engine_core.shutdown()

    def _push(self) -> None:
        self._pushed = None
        with computing():
            self._vllm.collective_rpc("reload_weights", kwargs={"weights_iterator": plain_weights(self.model)})
        if not self._vllm.reset_prefix_cache():
            raise RuntimeError("vLLM kept the attention state of earlier weights")
        self._pushed = self._version

    def _parameters(self, prompt_ids: Sequence[int], sampling: Sampling) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            max_tokens=min(sampling.max_tokens, self.max_length - len(prompt_ids)),
            stop_token_ids=list(sampling.stop_ids),
            ignore_eos=True,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            seed=request_seed(sampling.key, len(prompt_ids)),
            logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    async def _run(self) -> None:
        try:
            while self._unanswered:
                await self._settle()
                with computing():
                    outputs = self._vllm.step()
                for output in outputs:
                    if output.finished and (future := self._unanswered.pop(output.request_id, None)) is not None:
                        future.set_result(output)
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise

    async def _settle(self) -> None:
        """Let other coroutines run until no further one asks, so that those who answer at once are batched together."""
        num_unanswered = -1
        while num_unanswered != len(self._unanswered):
            num_unanswered = len(self._unanswered)
            await asyncio.sleep(0)

    def _fail(self, error: BaseException) -> None:
        unanswered, self._unanswered = self._unanswered, {}
        self._vllm.abort_request(list(unanswered))
        for future in unanswered.values():
            if future.done():
                continue
            if isinstance(error, Exception):
                future.set_exception(error)
            else:
                future.cancel()

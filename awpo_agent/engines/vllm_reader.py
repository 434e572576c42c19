"""vLLM in this process with weights from disk: log-probabilities of next tokens, and replies held to a schema."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from transformers import PreTrainedConfig

from awpo_agent.engines.vllm_process import computing, start_vllm
from awpo_env.errors import UsageError
from awpo_env.types import JSON

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

Result = TypeVar("Result")


class VLLMReader:
    """Reads prompts with a model that does not change; draws nothing at random.

    It may be made in one thread and used in others, beside a `VLLMEngine` of the same process.

    Args:
        folder: A checkpoint folder or a hub name.
        config: The model's configuration.
        limits: See `start_vllm`.

    Raises:
        UsageError: vLLM cannot run the model.
    """

    def __init__(self, folder: str, config: PreTrainedConfig, **limits: Any) -> None:
        try:
            self._vllm = start_vllm(folder, config, **limits)
        except ValueError as error:
            reason = " ".join(str(error).split())[:300]
            raise UsageError(
                f"vLLM cannot run {folder!r}: {reason}; expected a model it knows, or the engine 'transformers'"
            ) from None
        self._device = torch.cuda.current_device() if torch.cuda.is_available() else -1
        self._numbers = itertools.count()
        self._lock = threading.Lock()  # a step hands out whatever is done, whoever asked

    def of_model(self, function: Callable[[nn.Module], Result]) -> Result:
        """Return what a function makes of the module, as vLLM keeps it."""
        (result,) = self._vllm.apply_model(function)
        return result

    def next_logprobs(self, asked: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[dict[int, float]]:
        """Return log-probabilities of tokens that may come next; what prompts have in common is read once.

        Args:
            asked: Prompts, each with the tokens that are of interest, 128 at most.
        """
        from vllm import SamplingParams

        # The one token that has to be drawn is the likeliest: a random draw would take from the process's generators.
        outputs = self._run(
            [
                (
                    prompt,
                    SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=list(tokens), detokenize=False),
                )
                for prompt, tokens in asked
            ]
        )
        return [
            {token: output.outputs[0].logprobs[0][token].logprob for token in tokens}
            for output, (_, tokens) in zip(outputs, asked, strict=True)
        ]

    def write(self, prompts: Sequence[Sequence[int]], schemas: Sequence[JSON], max_new_tokens: int) -> list[str]:
        """Return each prompt's likeliest reply, token by token, that keeps to its JSON Schema."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        requests = [
            (
                prompt,
                SamplingParams(
                    max_tokens=max_new_tokens, temperature=0.0, structured_outputs=StructuredOutputsParams(json=schema)
                ),
            )
            for prompt, schema in zip(prompts, schemas, strict=True)
        ]
        return [output.outputs[0].text for output in self._run(requests)]

    def _run(self, requests: Sequence[tuple[Sequence[int], SamplingParams]]) -> list[RequestOutput]:
        """Return what vLLM makes of the requests, in their order; others may compute between two of its steps."""
        done: dict[str, RequestOutput] = {}
        with self._lock:
            names = [str(next(self._numbers)) for _ in requests]
            try:
                for name, (prompt, how) in zip(names, requests, strict=True):
                    content: Any = {"prompt_token_ids": list(prompt)}
                    self._vllm.add_request(name, content, how)
                while self._vllm.has_unfinished_requests():
                    # The current device belongs to the thread, and this may be another than the one it was made in.
                    with computing(), torch.cuda.device(self._device):
                        outputs = self._vllm.step()
                    done |= {output.request_id: output for output in outputs if output.finished}
            except BaseException:
                self._vllm.abort_request(names)
                raise
        return [done[name] for name in names]

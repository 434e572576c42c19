"""A judge's language model in this process that vLLM runs, and that writes nothing but what the schema allows."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoTokenizer

from awpo_agent.engines.vllm_process import computing, start_vllm
from awpo_agent.judge_model import Ids, Question, digest_of_weights
from awpo_agent.local_judge_settings import LocalJudgeSettings
from awpo_agent.train import find_policy, has_adapters, load_model_config
from awpo_env.errors import UsageError
from awpo_env.types import JSON

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams


class VLLMJudgeModel:
    """A language model that vLLM runs in this process; see `JudgeModel`.

    It may be made in one thread and used in others, beside a `VLLMEngine` of the same process.

    Args:
        settings: Which model, its type, and how much memory it may take.

    Raises:
        UsageError: There is no such model, or vLLM cannot run it.
    """

    def __init__(self, settings: LocalJudgeSettings) -> None:
        folder, config = find_policy(settings.model), load_model_config(settings.model)
        if has_adapters(folder):
            raise UsageError(f"{folder!r} holds adapters; expected a whole model, or the engine 'transformers'")
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        most = config.max_position_embeddings
        if settings.max_prompt_tokens is not None:
            most = min(most, settings.max_prompt_tokens + settings.max_new_tokens + 1)
        self.max_length: int | None = most - 1  # where marks are read one more token is drawn
        dtype = config.dtype or torch.float32 if settings.dtype == "auto" else getattr(torch, settings.dtype)
        try:
            self._vllm = start_vllm(
                folder,
                config,
                max_rows=settings.batch_size,
                max_length=most,
                dtype=dtype,
                gpu_memory_utilization=settings.gpu_memory_utilization,
            )
        except ValueError as error:
            reason = " ".join(str(error).split())[:300]
            raise UsageError(
                f"vLLM cannot run {settings.model!r}: {reason}; expected a model it knows, or the engine 'transformers'"
            ) from None
        self._config = config
        self._device = torch.cuda.current_device() if torch.cuda.is_available() else -1
        self._numbers = itertools.count()
        self._lock = threading.Lock()  # a step hands out whatever is done, whoever asked

    def digest(self) -> str:
        """See `JudgeModel.digest`."""
        config = self._config
        (digest,) = self._vllm.apply_model(lambda model: digest_of_weights(config, model.state_dict()))
        return digest

    def mark_probabilities(self, questions: Sequence[Question]) -> list[list[list[float]]]:
        """See `JudgeModel.mark_probabilities`; what prompts have in common is read once, from vLLM's prefix cache."""
        from vllm import SamplingParams

        places = [(question.prompt, place) for question in questions for place in question.places]
        requests: list[tuple[Ids, SamplingParams]] = []
        for prompt, place in places:
            for depth in range(len(place.chain) + 1):
                tokens = sorted({mark[depth] for mark in place.marks if len(mark) > depth})
                # Drawn greedily, for a random draw would take from the generators of the whole process.
                reading = SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=tokens, detokenize=False)
                requests.append(((*prompt, *place.beginning, *place.chain[:depth]), reading))
        outputs = iter(self._run(requests))
        rows: list[list[float]] = []
        for _, place in places:
            depths = [next(outputs).outputs[0].logprobs[0] for _ in range(len(place.chain) + 1)]
            logprobs = [[depths[depth][token].logprob for depth, token in enumerate(mark)] for mark in place.marks]
            rows.append([math.exp(math.fsum(steps)) for steps in logprobs])
        left = iter(rows)
        return [[next(left) for _ in question.places] for question in questions]

    def write(self, questions: Sequence[Question], schemas: Sequence[JSON], max_new_tokens: int) -> list[str]:
        """See `JudgeModel.write`; replies are held to their schemas."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        requests = [
            (
                question.prompt,
                SamplingParams(
                    max_tokens=max_new_tokens, temperature=0.0, structured_outputs=StructuredOutputsParams(json=schema)
                ),
            )
            for question, schema in zip(questions, schemas, strict=True)
        ]
        return [output.outputs[0].text for output in self._run(requests)]

    def _run(self, requests: Sequence[tuple[Ids, SamplingParams]]) -> list[RequestOutput]:
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

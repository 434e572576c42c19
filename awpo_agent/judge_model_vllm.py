"""A judge's language model in this process that vLLM runs, and that writes nothing but what the schema allows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from transformers import AutoTokenizer

from awpo_agent.engines.vllm_reader import VLLMReader
from awpo_agent.judge_model import Question, digest_of_weights
from awpo_agent.local_judge_settings import LocalJudgeSettings
from awpo_agent.train import find_policy, has_adapters, load_model_config
from awpo_env.errors import UsageError
from awpo_env.types import JSON


class VLLMJudgeModel:
    """A language model that vLLM runs in this process; see `JudgeModel`, and `VLLMReader` for threads.

    Args:
        settings: Which model, its type, and how much memory it may take.

    Raises:
        UsageError: There is no such model, or vLLM cannot run it.
    """

    def __init__(self, settings: LocalJudgeSettings) -> None:
        folder, self._config = find_policy(settings.model), load_model_config(settings.model)
        if has_adapters(folder):
            raise UsageError(f"{folder!r} holds adapters; expected a whole model, or the engine 'transformers'")
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        most = self._config.get_text_config().max_position_embeddings
        if settings.max_prompt_tokens is not None:
            most = min(most, settings.max_prompt_tokens + settings.max_new_tokens + 1)
        self.max_length: int | None = most - 1  # where marks are read one more token is drawn
        dtype = self._config.dtype or torch.float32
        self._reader = VLLMReader(
            folder,
            self._config,
            max_rows=settings.batch_size,
            max_length=most,
            dtype=dtype if settings.dtype == "auto" else getattr(torch, settings.dtype),
            gpu_memory_utilization=settings.gpu_memory_utilization,
        )

    def digest(self) -> str:
        """See `JudgeModel.digest`."""
        config = self._config
        return self._reader.of_model(lambda model: digest_of_weights(config, model.state_dict()))

    def mark_probabilities(self, questions: Sequence[Question]) -> list[list[list[float]]]:
        """See `JudgeModel.mark_probabilities`."""
        places = [(question.prompt, place) for question in questions for place in question.places]
        found = iter(
            self._reader.next_logprobs(
                [
                    (
                        (*prompt, *place.beginning, *place.chain[:depth]),
                        sorted({mark[depth] for mark in place.marks if len(mark) > depth}),
                    )
                    for prompt, place in places
                    for depth in range(len(place.chain) + 1)
                ]
            )
        )
        rows: list[list[float]] = []
        for _, place in places:
            depths = [next(found) for _ in range(len(place.chain) + 1)]
            logprobs = [[depths[depth][token] for depth, token in enumerate(mark)] for mark in place.marks]
            rows.append([math.exp(math.fsum(steps)) for steps in logprobs])
        left = iter(rows)
        return [[next(left) for _ in question.places] for question in questions]

    def write(self, questions: Sequence[Question], schemas: Sequence[JSON], max_new_tokens: int) -> list[str]:
        """See `JudgeModel.write`; replies are held to their schemas."""
        return self._reader.write([question.prompt for question in questions], schemas, max_new_tokens)

"""A judge's language model in this process: what it is asked, and the one that transformers runs.

Suffixes: B transcripts, T tokens of their prompts, S tokens of a reply's beginning, V vocabulary.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from awpo_agent.local_judge_settings import LocalJudgeSettings
from awpo_agent.train import load_policy
from awpo_env.errors import UsageError
from awpo_env.types import JSON

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one mark stands in a reply.

    Attributes:
        beginning: Token ids of the reply up to here.
        marks: For each mark from 0 on, and for None where it may not apply, the tokens that tell it from the others.
        chain: Tokens that several marks begin with, such as the space before a digit; what tells them apart follows.
    """

    beginning: Ids
    marks: tuple[Ids, ...]
    chain: Ids


@dataclass(frozen=True, slots=True)
class Question:
    """A transcript on its way to a model.

    Attributes:
        id: What a verdict about it has to carry.
        prompt: Token ids of the prompt.
        places: The marks that are read from their probabilities.
        num_tokens: Positions the model needs to answer.
    """

    id: str
    prompt: Ids
    places: tuple[Place, ...]
    num_tokens: int


class JudgeModel(Protocol):
    """A language model that answers a judge's questions.

    Attributes:
        tokenizer: Its tokenizer.
        max_length: Most positions it has; None if there is no limit.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int | None

    def digest(self) -> str:
        """Return what no other weights or configuration have, so that a kept reply is never another model's."""
        ...

    def mark_probabilities(self, questions: Sequence[Question]) -> list[list[list[float]]]:
        """Return, for each question and place, the probability that the reply goes on with each mark.

        Args:
            questions: With equally many places; one batch.

        Raises:
            torch.OutOfMemoryError: They are too many at once.
        """
        ...

    def write(self, questions: Sequence[Question], schemas: Sequence[JSON], max_new_tokens: int) -> list[str]:
        """Return what the model replies, token by token the likeliest; one batch.

        Args:
            questions: What is asked; places are of no account.
            schemas: For each question the JSON Schema of its reply. Only some models can be held to it.
            max_new_tokens: Longest reply.

        Raises:
            torch.OutOfMemoryError: They are too many at once.
        """
        ...


class TransformersJudgeModel:
    """A Hugging Face causal language model; its replies are asked for a schema, and not held to it.

    Args:
        model: Moved to the device and type, and put into evaluation mode.
        tokenizer: The model's.
        device: See `LocalJudgeSettings`.
        dtype: See `LocalJudgeSettings`.

    Raises:
        UsageError: There is no such device.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        device: str | None = None,
        dtype: str = "auto",
    ) -> None:
        self._model, self.tokenizer = _placed(model, device or _own_device(), dtype), tokenizer
        self.max_length = getattr(model.config, "max_position_embeddings", None)

    @classmethod
    def load(cls, settings: LocalJudgeSettings) -> TransformersJudgeModel:
        """Load the model that settings name.

        Raises:
            UsageError: There is no such model, or no such device.
        """
        return cls(*load_policy(settings.model, settings.dtype), device=settings.device, dtype=settings.dtype)

    def digest(self) -> str:
        """See `JudgeModel.digest`."""
        return digest_of_weights(self._model.config, self._model.state_dict())

    @torch.inference_mode()
    def mark_probabilities(self, questions: Sequence[Question]) -> list[list[list[float]]]:
        """See `JudgeModel.mark_probabilities`.

        The prompts are read once, with what the beginnings of the reply have in common; every place goes on from there.
        """
        model, device = self._model, self._model.device
        # One token at least is left to each place, for there its probabilities are.
        shared = [common_beginning([place.beginning[:-1] for place in question.places]) for question in questions]
        rows = [(*question.prompt, *start) for question, start in zip(questions, shared, strict=True)]
        ids_BT, mask_BT = _padded(rows, device, is_left=True)
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        read = model(ids_BT, attention_mask=mask_BT, position_ids=positions_BT, use_cache=True, logits_to_keep=1)
        found: list[list[list[float]]] = [[] for _ in questions]
        for number in range(len(questions[0].places)):
            places = [question.places[number] for question in questions]
            endings = [place.beginning[len(start) :] for place, start in zip(places, shared, strict=True)]
            ids_BS, mask_BS = _padded(
                [ending + place.chain for ending, place in zip(endings, places, strict=True)], device, is_left=False
            )
            logits_BSV = model(
                ids_BS,
                attention_mask=torch.cat([mask_BT, mask_BS], dim=1),
                position_ids=positions_BT[:, -1:] + mask_BS.cumsum(-1),
                past_key_values=copy.deepcopy(read.past_key_values),  # a forward pass writes into what it is given
                use_cache=True,
            ).logits
            for row, place in enumerate(places):
                probabilities_SV = logits_BSV[row, len(endings[row]) - 1 :].float().softmax(dim=-1)
                found[row].append([_probability(probabilities_SV, mark) for mark in place.marks])
        return found

    @torch.inference_mode()
    def write(self, questions: Sequence[Question], schemas: Sequence[JSON], max_new_tokens: int) -> list[str]:
        """See `JudgeModel.write`."""
        tokenizer, end = self.tokenizer, self.tokenizer.eos_token_id
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=self._model.generation_config.eos_token_id or end,
            pad_token_id=end if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        )
        ids_BT, mask_BT = _padded([question.prompt for question in questions], self._model.device, is_left=True)
        written_BT = self._model.generate(ids_BT, attention_mask=mask_BT, generation_config=config)
        return tokenizer.batch_decode(written_BT[:, ids_BT.shape[1] :], skip_special_tokens=True)


def common_beginning(rows: Sequence[Ids]) -> Ids:
    """Return the tokens that all rows begin with."""
    for number, column in enumerate(zip(*rows, strict=False)):
        if len({*column}) > 1:
            return rows[0][:number]
    return min(rows, key=len)


def digest_of_weights(config: PreTrainedConfig, tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a digest of a model's settings and of every tensor."""
    settings: dict[str, Any] = {**config.to_dict(), "_name_or_path": None, "transformers_version": None}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _probability(probabilities_SV: torch.Tensor, tokens: Ids) -> float:
    """Return the probability of tokens that follow one another."""
    return math.prod(float(probabilities_SV[place, token]) for place, token in enumerate(tokens))


def _padded(rows: Sequence[Ids], device: torch.device, *, is_left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows as one tensor filled up with 0, and a mask that is 1 where they are."""
    length = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), length, dtype=torch.long), torch.zeros(len(rows), length, dtype=torch.long)
    for number, row in enumerate(rows):
        place = slice(length - len(row), length) if is_left else slice(0, len(row))
        ids[number, place], mask[number, place] = torch.tensor(row), 1
    return ids.to(device), mask.to(device)


def _placed(model: nn.Module, device: str, dtype: str) -> nn.Module:
    try:
        model = model.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UsageError(f"device {device!r} cannot be used: {reason}; expected one such as 'cpu' or 'cuda'") from None
    if dtype != "auto":
        model = model.to(getattr(torch, dtype))
    return model.eval()


def _own_device() -> str:
    """The accelerator of this process, as launchers number them, or the CPU."""
    if torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"

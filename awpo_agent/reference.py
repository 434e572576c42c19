"""The model that a run started from, by which is measured how far the policy has gone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from awpo_agent.losses import sampled_logprobs
from awpo_agent.policy import has_adapters

Scorer = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Reference:
    """Scores tokens as the policy did when this was made: by a copy of it, or with its adapters switched off.

    Args:
        policy: As it starts; what is trained of it later changes nothing here.
        temperature: What logits are divided by.
        device: Where the copy is kept.
    """

    def __init__(self, policy: nn.Module, temperature: float, device: torch.device) -> None:
        self._policy, self._temperature = policy, temperature
        self._copy = None if has_adapters(policy) else copy.deepcopy(policy).requires_grad_(False).to(device)

    @torch.no_grad()
    def logprobs(self, scorer: Scorer, ids_BT: torch.Tensor, is_sampled_BT: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities of the sampled tokens, (N,).

        Args:
            scorer: Scores by the policy, which may be shared out among processes: all of them call this.
            ids_BT: Token ids padded on the right.
            is_sampled_BT: True at tokens that were sampled.
        """
        if self._copy is None:
            with self._policy.disable_adapter():
                return scorer(ids_BT, is_sampled_BT)[0]
        return sampled_logprobs(self._copy, ids_BT, is_sampled_BT, self._temperature)[0]

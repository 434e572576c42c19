"""What every advantage estimator is: rewards of groups in, one advantage for each episode out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from awpo_agent.advantages.switches import AWPOSwitches


@dataclass(frozen=True, slots=True)
class Advantages:
    """What an estimator returns.

    Attributes:
        advantages_PG: One advantage per episode, 0 where the episode does not train.
        reasoning_part_PG: What the judge contributed to each of them; the rest is the outcome's.
        trains_PG: Which episodes carry loss.
        clip_epsilon: The clip radius of this batch.
        gate_P: How much the reasoning signal speaks in each group, in [0, 1].
        difficulty_P: The weight of each group, never 0.
    """

    advantages_PG: torch.Tensor
    reasoning_part_PG: torch.Tensor
    trains_PG: torch.Tensor
    clip_epsilon: float
    gate_P: torch.Tensor
    difficulty_P: torch.Tensor


class Estimator(Protocol):
    """The signature every estimator shares. P prompts, G rollouts of each; no gradient flows through any argument.

    Args:
        outcome_PG: Outcome rewards; whatever stands where `outcome_valid_PG` is False is never read.
        outcome_range_P2: Least and greatest outcome attainable on each task.
        outcome_valid_PG: False where the environment broke: such an episode neither trains nor votes.
        reasoning_PG: Judge scores in [0, 1]; never read where `reasoning_valid_PG` is False.
        reasoning_valid_PG: False where there is no score: such an episode trains on its outcome alone and does not
            vote in the judge's statistics.
        epsilon: The clip radius the schedule starts from.
        reference_P: The judge's score of each task's own solution, NaN where there is none; by default nowhere. What a
            judge is checked against before failures are told apart by it; read by `awpo` alone.
        switches: Weights of the two rewards, and AWPO's parts; each estimator says which of them it reads.

    Raises:
        ValueError: A reward marked as valid, or a solution's score, is not finite or outside its range.
    """

    def __call__(
        self,
        outcome_PG: torch.Tensor,
        outcome_range_P2: torch.Tensor,
        outcome_valid_PG: torch.Tensor,
        reasoning_PG: torch.Tensor,
        reasoning_valid_PG: torch.Tensor,
        *,
        epsilon: float,
        reference_P: torch.Tensor | None = None,
        switches: AWPOSwitches = ...,
    ) -> Advantages: ...

"""Estimators to compare with: GRPO and its relatives, on the outcome alone or with the judge's score beside it.

All but GRPO's own formula share what is ours: only members that vote count, a member without a judge score has the
reasoning term 0, and the clip radius stays as it is. See `Estimator` for the arguments.
"""

from __future__ import annotations

import torch

from awpo_agent.advantages.base import Advantages
from awpo_agent.advantages.groups import (
    SPREAD_TOLERANCE,
    STD_EPSILON,
    GroupRewards,
    deviation,
    normalised,
    read_rewards,
    spread,
)
from awpo_agent.advantages.switches import DEFAULTS, AWPOSwitches


def grpo(
    outcome_PG: torch.Tensor,
    outcome_range_P2: torch.Tensor,
    outcome_valid_PG: torch.Tensor,
    reasoning_PG: torch.Tensor,
    reasoning_valid_PG: torch.Tensor,
    *,
    epsilon: float,
    reference_P: torch.Tensor | None = None,
    switches: AWPOSwitches = DEFAULTS,
) -> Advantages:
    """GRPO: ``A = (o - mean) / (std + 1e-4)`` inside the group, on the outcome alone; |A| < sqrt(G).

    Source: arXiv 2402.03300, tag ``paper``. Reads no switch.
    """
    rewards = read_rewards(outcome_PG, outcome_range_P2, outcome_valid_PG, reasoning_PG, reasoning_valid_PG)
    return _by_outcome(rewards, normalised(rewards.outcome_PG, rewards.valid_PG), epsilon)


def dr_grpo(
    outcome_PG: torch.Tensor,
    outcome_range_P2: torch.Tensor,
    outcome_valid_PG: torch.Tensor,
    reasoning_PG: torch.Tensor,
    reasoning_valid_PG: torch.Tensor,
    *,
    epsilon: float,
    reference_P: torch.Tensor | None = None,
    switches: AWPOSwitches = DEFAULTS,
) -> Advantages:
    """Dr. GRPO: ``A = o - mean``, so that a group of medium difficulty is not worth as much as any other.

    Source: arXiv 2503.20783, tag ``paper``; its other half, a loss without a length bias, is how every loss is summed
    here. In units of the outcome, so a range twice as wide doubles A. Reads no switch.
    """
    rewards = read_rewards(outcome_PG, outcome_range_P2, outcome_valid_PG, reasoning_PG, reasoning_valid_PG)
    return _by_outcome(rewards, deviation(rewards.outcome_PG, rewards.valid_PG), epsilon)


def rloo(
    outcome_PG: torch.Tensor,
    outcome_range_P2: torch.Tensor,
    outcome_valid_PG: torch.Tensor,
    reasoning_PG: torch.Tensor,
    reasoning_valid_PG: torch.Tensor,
    *,
    epsilon: float,
    reference_P: torch.Tensor | None = None,
    switches: AWPOSwitches = DEFAULTS,
) -> Advantages:
    """RLOO: ``A = o - mean of the others = n / (n - 1) (o - mean)``, n members voting; unbiased.

    Source: arXiv 2402.14740, tag ``paper``. In units of the outcome. Reads no switch.
    """
    rewards = read_rewards(outcome_PG, outcome_range_P2, outcome_valid_PG, reasoning_PG, reasoning_valid_PG)
    count_P1 = rewards.valid_PG.sum(dim=1, keepdim=True)
    advantages_PG = count_P1 * deviation(rewards.outcome_PG, rewards.valid_PG) / (count_P1 - 1).clamp_min(1)
    return _by_outcome(rewards, advantages_PG, epsilon)


def mixed(
    outcome_PG: torch.Tensor,
    outcome_range_P2: torch.Tensor,
    outcome_valid_PG: torch.Tensor,
    reasoning_PG: torch.Tensor,
    reasoning_valid_PG: torch.Tensor,
    *,
    epsilon: float,
    reference_P: torch.Tensor | None = None,
    switches: AWPOSwitches = DEFAULTS,
) -> Advantages:
    """The naive sum: GRPO on ``m = weight o + lambda q``, outcomes on [0, 1]; what AWPO argues against.

    Tag ``ours`` (the AWPO paper names the baseline, not its scales). Reads `outcome_weight` and `coefficient`.
    """
    rewards = read_rewards(outcome_PG, outcome_range_P2, outcome_valid_PG, reasoning_PG, reasoning_valid_PG)
    outcome_PG = switches.outcome_weight * deviation(rewards.unit_PG, rewards.valid_PG)
    reasoning_PG = switches.coefficient * deviation(rewards.reasoning_PG, rewards.votes_PG)
    spread_P1 = spread(outcome_PG + reasoning_PG, rewards.valid_PG)[:, None]
    scale_P1 = torch.where(spread_P1 > 0, 1.0 / (spread_P1 + STD_EPSILON), 0.0)
    return _by_both(rewards, scale_P1 * outcome_PG, scale_P1 * reasoning_PG, epsilon)


def gdpo(
    outcome_PG: torch.Tensor,
    outcome_range_P2: torch.Tensor,
    outcome_valid_PG: torch.Tensor,
    reasoning_PG: torch.Tensor,
    reasoning_valid_PG: torch.Tensor,
    *,
    epsilon: float,
    reference_P: torch.Tensor | None = None,
    switches: AWPOSwitches = DEFAULTS,
) -> Advantages:
    """GDPO: each reward normalised in its group, ``S = weight A_o + lambda A_q``, then ``A = S / (std(S) + 1e-4)``.

    The last standard deviation is that of all episodes of the batch that train; their mean is 0 already.

    Source: arXiv 2601.05242, tag ``paper``. Reads `outcome_weight` and `coefficient`.
    """
    rewards = read_rewards(outcome_PG, outcome_range_P2, outcome_valid_PG, reasoning_PG, reasoning_valid_PG)
    outcome_PG = switches.outcome_weight * normalised(rewards.outcome_PG, rewards.valid_PG)
    reasoning_PG = switches.coefficient * normalised(rewards.reasoning_PG, rewards.votes_PG)
    # One row: the batch is the group here.
    all_spread = spread((outcome_PG + reasoning_PG).reshape(1, -1), rewards.valid_PG.reshape(1, -1))
    scale = torch.where(all_spread > 0, 1.0 / (all_spread + STD_EPSILON), 0.0)
    return _by_both(rewards, scale * outcome_PG, scale * reasoning_PG, epsilon)


def papo(
    outcome_PG: torch.Tensor,
    outcome_range_P2: torch.Tensor,
    outcome_valid_PG: torch.Tensor,
    reasoning_PG: torch.Tensor,
    reasoning_valid_PG: torch.Tensor,
    *,
    epsilon: float,
    reference_P: torch.Tensor | None = None,
    switches: AWPOSwitches = DEFAULTS,
) -> Advantages:
    """PAPO: ``A = weight A_o + lambda A_q``, where A_q is normalised among the correct members and 0 for the others.

    Correct is who has the best attainable outcome. In failing groups the judge is not heard, the opposite of AWPO.

    Source: arXiv 2603.26535, tag ``paper``, whose sum has lambda = 1. Reads `outcome_weight` and `coefficient`.
    """
    rewards = read_rewards(outcome_PG, outcome_range_P2, outcome_valid_PG, reasoning_PG, reasoning_valid_PG)
    is_correct_PG = rewards.votes_PG & (rewards.unit_PG >= 1.0 - SPREAD_TOLERANCE)
    outcome_PG = switches.outcome_weight * normalised(rewards.outcome_PG, rewards.valid_PG)
    reasoning_PG = switches.coefficient * normalised(rewards.reasoning_PG, is_correct_PG)
    return _by_both(rewards, outcome_PG, reasoning_PG, epsilon)


def _by_outcome(rewards: GroupRewards, advantages_PG: torch.Tensor, epsilon: float) -> Advantages:
    return _by_both(rewards, advantages_PG, torch.zeros_like(advantages_PG), epsilon)


def _by_both(
    rewards: GroupRewards, outcome_part_PG: torch.Tensor, reasoning_part_PG: torch.Tensor, epsilon: float
) -> Advantages:
    zeros_P = torch.zeros_like(outcome_part_PG[:, 0])
    advantages_PG = outcome_part_PG + reasoning_part_PG
    return Advantages(advantages_PG, reasoning_part_PG, rewards.valid_PG, epsilon, zeros_P, zeros_P + 1.0)

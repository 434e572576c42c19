"""AWPO's parts by name: gates, reasoning scales, difficulty weights and clip schedules, each a pure function.

The AWPO paper (arXiv 2512.19126) names gate, difficulty weight and adaptive clip and says what they are for; its
equations are not public. Tags: ``reconstructed`` where an equation is ours for a thing the paper names, else ``ours``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from awpo_agent.advantages.groups import (
    SPREAD_TOLERANCE,
    STD_EPSILON,
    GroupRewards,
    deviation,
    mean,
    refuse_outside,
    spread,
)
from awpo_agent.advantages.switches import AWPOSwitches


@dataclass(frozen=True, slots=True)
class Signal:
    """Deviations and spreads of one batch; a spread is exactly 0 where rewards are equal up to tolerance.

    In a group that is blamed for how it falls short of the task's own solution, that solution's score counts in mu_q,
    s_q and s_m as one more member's.

    Attributes:
        outcome_deviation_PG: ``weight (o - mu_o)``, o on [0, 1].
        reasoning_deviation_PG: ``q - mu_q``; 0 in a group whose spread is below the floor, and for who has no score.
        outcome_spread_P: s_o, of ``weight o``.
        reasoning_spread_P: s_q, 0 below the floor.
        mixed_spread_P: s_m, of ``weight o + lambda q``.
        coefficient: lambda.
    """

    outcome_deviation_PG: torch.Tensor
    reasoning_deviation_PG: torch.Tensor
    outcome_spread_P: torch.Tensor
    reasoning_spread_P: torch.Tensor
    mixed_spread_P: torch.Tensor
    coefficient: float


def read_signal(rewards: GroupRewards, joining_P: torch.Tensor, switches: AWPOSwitches) -> Signal:
    """Return what the parts look at.

    Args:
        rewards: Of the groups.
        joining_P: Score of the task's own solution where it counts as a member of its group, else NaN.
        switches: Reads `outcome_weight`, `coefficient` and `reasoning_floor`.
    """
    outcome_deviation_PG = switches.outcome_weight * deviation(rewards.unit_PG, rewards.valid_PG)
    joins_P1 = ~joining_P.isnan()[:, None]
    scores_PM = torch.cat([rewards.reasoning_PG, joining_P.nan_to_num(0.0)[:, None]], dim=1)
    votes_PM = torch.cat([rewards.votes_PG, joins_P1], dim=1)
    reasoning_spread_P = spread(scores_PM, votes_PM)
    is_heard_P = reasoning_spread_P >= switches.reasoning_floor
    reasoning_deviation_PG = is_heard_P[:, None] * deviation(scores_PM, votes_PM)[:, :-1]
    mixed_deviation_PG = outcome_deviation_PG + switches.coefficient * reasoning_deviation_PG
    mixed_spread_P = spread(mixed_deviation_PG, rewards.valid_PG)
    reasoning_spread_P = is_heard_P * reasoning_spread_P
    return Signal(
        outcome_deviation_PG=outcome_deviation_PG,
        reasoning_deviation_PG=reasoning_deviation_PG,
        outcome_spread_P=spread(outcome_deviation_PG, rewards.valid_PG),
        reasoning_spread_P=reasoning_spread_P,
        # The solution joins only where all outcomes are equal, so the mix is the judge's part alone.
        mixed_spread_P=torch.where(joins_P1[:, 0], switches.coefficient * reasoning_spread_P, mixed_spread_P),
        coefficient=switches.coefficient,
    )


# ---- gates


def _std_ratio_mix(signal: Signal) -> tuple[torch.Tensor, torch.Tensor]:
    """``w = s_m / (s_o + s_m)``, s_m the spread of o + lambda q; reliance ``max(0, 2w - 1)``. Tag: reconstructed."""
    gate_P = _share(signal.mixed_spread_P, signal.outcome_spread_P)
    return gate_P, (2.0 * gate_P - 1.0).clamp_min(0.0)


def _std_ratio_reason(signal: Signal) -> tuple[torch.Tensor, torch.Tensor]:
    """``w = lambda s_q / (s_o + lambda s_q)``; reliance w. Tag: reconstructed."""
    gate_P = _share(signal.coefficient * signal.reasoning_spread_P, signal.outcome_spread_P)
    return gate_P, gate_P


def _hard(signal: Signal) -> tuple[torch.Tensor, torch.Tensor]:
    """``w = 1`` where the outcomes are all equal and ``lambda s_q > 0``, else 0; reliance w. Tag: ours."""
    is_alone_P = (signal.outcome_spread_P == 0) & (signal.coefficient * signal.reasoning_spread_P > 0)
    gate_P = is_alone_P.to(signal.outcome_spread_P.dtype)
    return gate_P, gate_P


def _no_gate(signal: Signal) -> tuple[torch.Tensor, torch.Tensor]:
    """``w = 0``: the judge is not heard. Tag: ours."""
    zeros_P = torch.zeros_like(signal.outcome_spread_P)
    return zeros_P, zeros_P


def _share(part_P: torch.Tensor, rest_P: torch.Tensor) -> torch.Tensor:
    total_P = part_P + rest_P
    return torch.where(total_P > 0, part_P / total_P.clamp_min(SPREAD_TOLERANCE), 0.0)


GATES: Mapping[str, Callable[[Signal], tuple[torch.Tensor, torch.Tensor]]] = {
    "std_ratio_mix": _std_ratio_mix,
    "std_ratio_reason": _std_ratio_reason,
    "hard": _hard,
    "none": _no_gate,
}
"""Variance-aware gates: signal -> (w, reliance on reasoning), both in [0, 1] per group."""

# ---- reasoning scales


def _group_std(signal: Signal, switches: AWPOSwitches) -> tuple[torch.Tensor, torch.Tensor]:
    """``s_q + 1e-4`` and ``s_m + 1e-4``: unit size in every group, as GRPO does it. Tag: reconstructed."""
    return signal.reasoning_spread_P + STD_EPSILON, signal.mixed_spread_P + STD_EPSILON


def _fixed(signal: Signal, switches: AWPOSwitches) -> tuple[torch.Tensor, torch.Tensor]:
    """``u`` and ``sqrt(s_o^2 + (lambda u)^2) + 1e-4``, as if every judge that speaks spread by the unit u. Tag: ours.

    Where all outcomes are equal both make ``(q - mu_q) / u`` of it, so the push grows with the disagreement. Where the
    judge does not speak the mix is the outcome alone, and so is its scale.
    """
    unit_P = torch.full_like(signal.outcome_spread_P, switches.reasoning_unit)
    loud_P = torch.where(signal.reasoning_spread_P > 0, switches.coefficient * unit_P, 0.0)
    return unit_P, (signal.outcome_spread_P.square() + loud_P.square()).sqrt() + STD_EPSILON


SCALES: Mapping[str, Callable[[Signal, AWPOSwitches], tuple[torch.Tensor, torch.Tensor]]] = {
    "group_std": _group_std,
    "fixed": _fixed,
}
"""What deviations of the judge's scores and of the mix are divided by, per group, above 0."""

# ---- difficulty weights


def _interval(mean_P: torch.Tensor, switches: AWPOSwitches) -> torch.Tensor:
    """``D = boost`` where ``low <= mean <= high``, else 1. Tag: reconstructed."""
    is_medium_P = (mean_P >= switches.difficulty_low) & (mean_P <= switches.difficulty_high)
    return torch.where(is_medium_P, switches.difficulty_boost, torch.ones_like(mean_P))


def _smooth(mean_P: torch.Tensor, switches: AWPOSwitches) -> torch.Tensor:
    """``D = 1 + (boost - 1) 4 mean (1 - mean)``: boost at 1/2, 1 at both ends. Tag: reconstructed."""
    return 1.0 + (switches.difficulty_boost - 1.0) * 4.0 * mean_P * (1.0 - mean_P)


DIFFICULTIES: Mapping[str, Callable[[torch.Tensor, AWPOSwitches], torch.Tensor]] = {
    "interval": _interval,
    "smooth": _smooth,
    "none": lambda mean_P, switches: torch.ones_like(mean_P),
}
"""Difficulty weights: (mean outcome on [0, 1], switches) -> D per group, between 1 and the boost."""

# ---- clip schedules

CLIPS: Mapping[str, Callable[[float, float, AWPOSwitches], float]] = {
    "tighten": lambda epsilon, reliance, switches: epsilon / (1.0 + switches.clip_strength * reliance),
    "fixed": lambda epsilon, reliance, switches: epsilon,
    "widen": lambda epsilon, reliance, switches: epsilon * (1.0 + switches.clip_strength * reliance),
}
"""Clip schedules: (epsilon, reliance, switches) -> radius. Tag: reconstructed; the direction is the reader's guess.

Reliance is the mean over the groups in the loss of the whole batch, so that all processes clip alike.
"""


def is_right(rewards: GroupRewards) -> torch.Tensor:
    """Return which groups have only outcomes that are the best attainable, of shape (P,)."""
    return ((rewards.unit_PG >= 1.0 - SPREAD_TOLERANCE) | ~rewards.valid_PG).all(dim=1)


def is_wrong(rewards: GroupRewards) -> torch.Tensor:
    """Return which groups have only outcomes that are the least attainable, of shape (P,)."""
    return ((rewards.unit_PG <= SPREAD_TOLERANCE) | ~rewards.valid_PG).all(dim=1)


def ranks_reference_first(rewards: GroupRewards, reference_P: torch.Tensor | None) -> torch.Tensor:
    """Return in which groups the judge puts no scored episode above the task's own solution, of shape (P,).

    Not where that solution has no score. A judge who likes a failure better is paid for something else than the goal.
    Tag: ours.

    Raises:
        ValueError: A solution's score is neither NaN nor in [0, 1].
    """
    best_P = torch.where(rewards.votes_PG, rewards.reasoning_PG, 0.0).amax(dim=1)
    if reference_P is None:
        return torch.zeros_like(best_P, dtype=torch.bool)
    refuse_outside("judge score of a task's own solution", reference_P[~reference_P.isnan()])
    return reference_P >= best_P - SPREAD_TOLERANCE  # False for NaN


def mean_outcome(rewards: GroupRewards) -> torch.Tensor:
    """Return each group's mean outcome on [0, 1], of shape (P,): its difficulty."""
    return mean(rewards.unit_PG, rewards.valid_PG)

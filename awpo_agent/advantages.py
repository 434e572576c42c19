"""Advantage estimators as pure functions over groups of rewards; needs torch and nothing else.

AWPO (arXiv 2512.19126) fuses a verifiable outcome reward with a judge's reasoning reward. The paper's theory is public,
the exact equations of its gate, difficulty weight and clip schedule are not; every formula here carries one of three
tags: ``paper``, ``reconstructed`` (the paper names the thing, the equation is ours), ``ours``.

Shapes: P prompts, G rollouts per prompt. Spread is the sample standard deviation over the members that vote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

_STD_EPSILON = 1e-4  # added to every standard deviation, as in GRPO's common implementations
_SPREAD_TOLERANCE = 1e-6  # rewards closer than this are equal; a float's std of equal numbers need not be 0


@dataclass(frozen=True, slots=True)
class Advantages:
    """What an estimator returns.

    Attributes:
        advantages_PG: One advantage per episode, 0 where the episode does not train.
        trains_PG: Which episodes carry loss.
        clip_epsilon: The clip radius of this batch.
        gate_P: How much the reasoning signal speaks in each group, in [0, 1].
        difficulty_P: The weight of each group, never 0.
    """

    advantages_PG: torch.Tensor
    trains_PG: torch.Tensor
    clip_epsilon: float
    gate_P: torch.Tensor
    difficulty_P: torch.Tensor


class Estimator(Protocol):
    """The signature every estimator shares.

    Args:
        outcome_PG: Outcome rewards; whatever stands where `outcome_valid_PG` is False is never read.
        outcome_range_P2: Least and greatest outcome attainable on each task.
        outcome_valid_PG: False where the environment broke: such an episode neither trains nor votes.
        reasoning_PG: Judge scores in [0, 1]; never read where `reasoning_valid_PG` is False.
        reasoning_valid_PG: False where there is no score: such an episode trains on its outcome alone.
        epsilon: The clip radius the schedule starts from.
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
    ) -> Advantages: ...


@dataclass(frozen=True, slots=True)
class AWPOSwitches:
    """AWPO's parts, each of which can be turned off. All off is GRPO, bit for bit.

    Attributes:
        gate: ``std_ratio_mix``, ``std_ratio_reason``, ``hard`` or ``none`` (see `GATES`).
        coefficient: lambda >= 0, the size of the reasoning reward beside an outcome on [0, 1].
        reasoning_floor: A group whose judge scores spread less than this has no reasoning signal: dividing by a tiny
            spread would turn judge noise into unit-size advantages.
        all_right: What a group does whose outcomes are all the best attainable: ``reason`` (the judge alone), ``skip``.
        all_wrong: The same for a group whose outcomes are all the least attainable.
        difficulty: ``interval`` or ``none``.
        difficulty_low: Lower end of the medium band of the group's mean outcome, on [0, 1].
        difficulty_high: Upper end of that band.
        difficulty_boost: Weight of groups inside the band; others have 1.
        clip: ``tighten`` or ``fixed``.
        clip_strength: eta >= 0 in ``epsilon / (1 + eta * reliance)``.
    """

    gate: str = "std_ratio_mix"
    coefficient: float = 0.5
    reasoning_floor: float = 0.02
    all_right: str = "skip"
    all_wrong: str = "reason"
    difficulty: str = "interval"
    difficulty_low: float = 0.25
    difficulty_high: float = 0.75
    difficulty_boost: float = 1.5
    clip: str = "tighten"
    clip_strength: float = 1.0


ALL_OFF = AWPOSwitches(gate="none", all_right="reason", all_wrong="reason", difficulty="none", clip="fixed")
"""The switches that make `awpo` equal `grpo`."""


def grpo(
    outcome_PG: torch.Tensor,
    outcome_range_P2: torch.Tensor,
    outcome_valid_PG: torch.Tensor,
    reasoning_PG: torch.Tensor,
    reasoning_valid_PG: torch.Tensor,
    *,
    epsilon: float,
) -> Advantages:
    """GRPO: ``(o - mean) / (std + 1e-4)`` inside the group, on the outcome alone.

    Source: GRPO (arXiv 2402.03300), tag ``paper``; voting by valid members only is ``ours``. See `Estimator`.
    """
    advantages_PG = _normalised(outcome_PG, outcome_valid_PG)
    zeros_P = torch.zeros_like(advantages_PG[:, 0])
    return Advantages(advantages_PG, outcome_valid_PG, epsilon, zeros_P, zeros_P + 1.0)


def awpo(
    outcome_PG: torch.Tensor,
    outcome_range_P2: torch.Tensor,
    outcome_valid_PG: torch.Tensor,
    reasoning_PG: torch.Tensor,
    reasoning_valid_PG: torch.Tensor,
    *,
    epsilon: float,
    switches: AWPOSwitches = AWPOSwitches(),
) -> Advantages:
    """AWPO: ``A = D * ((1 - w) A_outcome + w A_reasoning)`` with gate w, difficulty weight D and an adaptive clip.

    Source: arXiv 2512.19126 for the three parts and their purpose (``paper``); their equations are ``reconstructed``,
    saturation rules and the noise floor are ``ours``. See `Estimator` for the arguments. No gradient flows through
    w, D or the clip radius: rewards carry none.
    """
    low_P1, high_P1 = outcome_range_P2[:, :1], outcome_range_P2[:, 1:]
    # A task that allows one outcome only has no range to divide by; all its members are equal whatever the divisor.
    width_P1 = torch.where(high_P1 > low_P1, high_P1 - low_P1, 1.0)
    unit_PG = torch.where(outcome_valid_PG, (outcome_PG - low_P1) / width_P1, 0.0)
    votes_PG = reasoning_valid_PG & outcome_valid_PG
    signal = _reasoning_signal(unit_PG, outcome_valid_PG, reasoning_PG, votes_PG, switches)
    outcome_advantage_PG = _normalised(outcome_PG, outcome_valid_PG)
    gate_P, reliance_P = GATES[switches.gate](signal)
    reasoning_advantage_PG = signal.mixed_advantage_PG if switches.gate == "std_ratio_mix" else signal.advantage_PG
    # A member without a judge score has reasoning term 0, so what is left for it is its outcome.
    weight_PG = gate_P[:, None] * (votes_PG if switches.gate != "std_ratio_mix" else torch.ones_like(votes_PG))
    advantages_PG = (1.0 - weight_PG) * outcome_advantage_PG + weight_PG * reasoning_advantage_PG
    mean_P = _mean(unit_PG, outcome_valid_PG)
    skipped_P = _skipped(unit_PG, outcome_valid_PG, switches)
    difficulty_P = DIFFICULTIES[switches.difficulty](mean_P, switches)
    trains_PG = outcome_valid_PG & ~skipped_P[:, None]
    in_loss_P = trains_PG.any(dim=1) & ((signal.outcome_spread_P > 0) | (signal.reasoning_spread_P > 0))
    reliance = float(reliance_P[in_loss_P].mean()) if bool(in_loss_P.any()) else 0.0
    return Advantages(
        advantages_PG=torch.where(trains_PG, difficulty_P[:, None] * advantages_PG, 0.0),
        trains_PG=trains_PG,
        clip_epsilon=CLIPS[switches.clip](epsilon, reliance, switches),
        gate_P=torch.where(skipped_P, 0.0, gate_P),
        difficulty_P=difficulty_P,
    )


ESTIMATORS: Mapping[str, Estimator] = {"grpo": grpo, "awpo": awpo}
"""Estimators by the name a configuration gives."""


@dataclass(frozen=True, slots=True)
class _Signal:
    """Spreads and normalised deviations of one batch; all spreads are 0 where rewards are equal up to tolerance."""

    outcome_spread_P: torch.Tensor  # s_o, of outcomes on [0, 1]
    reasoning_spread_P: torch.Tensor  # s_q, 0 below the floor
    mixed_spread_P: torch.Tensor  # s_m, of o + lambda q
    advantage_PG: torch.Tensor  # A_q
    mixed_advantage_PG: torch.Tensor  # A_m
    coefficient: float


def _reasoning_signal(
    unit_PG: torch.Tensor,
    valid_PG: torch.Tensor,
    reasoning_PG: torch.Tensor,
    votes_PG: torch.Tensor,
    switches: AWPOSwitches,
) -> _Signal:
    scores_PG = torch.where(votes_PG, reasoning_PG, 0.0)
    outcome_spread_P = _spread(unit_PG, valid_PG)
    reasoning_spread_P = _spread(scores_PG, votes_PG)
    reasoning_spread_P = torch.where(reasoning_spread_P < switches.reasoning_floor, 0.0, reasoning_spread_P)
    speaks_P1 = (reasoning_spread_P > 0)[:, None]
    outcome_deviation_PG = torch.where(valid_PG, unit_PG - _mean(unit_PG, valid_PG)[:, None], 0.0)
    reasoning_deviation_PG = torch.where(
        votes_PG & speaks_P1, scores_PG - _mean(scores_PG, votes_PG)[:, None], torch.zeros_like(scores_PG)
    )
    mixed_deviation_PG = outcome_deviation_PG + switches.coefficient * reasoning_deviation_PG
    mixed_spread_P = _spread(mixed_deviation_PG, valid_PG)
    return _Signal(
        outcome_spread_P=outcome_spread_P,
        reasoning_spread_P=reasoning_spread_P,
        mixed_spread_P=mixed_spread_P,
        advantage_PG=reasoning_deviation_PG / (reasoning_spread_P[:, None] + _STD_EPSILON),
        mixed_advantage_PG=mixed_deviation_PG / (mixed_spread_P[:, None] + _STD_EPSILON),
        coefficient=switches.coefficient,
    )


def _std_ratio_mix(signal: _Signal) -> tuple[torch.Tensor, torch.Tensor]:
    """``w = s_m / (s_o + s_m)``, s_m the spread of o + lambda q; reliance ``max(0, 2w - 1)``. Tag: reconstructed."""
    total_P = signal.outcome_spread_P + signal.mixed_spread_P
    gate_P = torch.where(total_P > 0, signal.mixed_spread_P / total_P.clamp_min(_SPREAD_TOLERANCE), 0.0)
    return gate_P, (2.0 * gate_P - 1.0).clamp_min(0.0)


def _std_ratio_reason(signal: _Signal) -> tuple[torch.Tensor, torch.Tensor]:
    """``w = lambda s_q / (s_o + lambda s_q)``; reliance w. Tag: reconstructed (ours where it differs from the mix)."""
    loud_P = signal.coefficient * signal.reasoning_spread_P
    total_P = signal.outcome_spread_P + loud_P
    gate_P = torch.where(total_P > 0, loud_P / total_P.clamp_min(_SPREAD_TOLERANCE), 0.0)
    return gate_P, gate_P


def _hard(signal: _Signal) -> tuple[torch.Tensor, torch.Tensor]:
    """``w = 1`` where the outcomes are all equal and the judge is not, else 0. Tag: ours."""
    gate_P = ((signal.outcome_spread_P == 0) & (signal.reasoning_spread_P > 0)).to(signal.outcome_spread_P.dtype)
    return gate_P, gate_P


def _no_gate(signal: _Signal) -> tuple[torch.Tensor, torch.Tensor]:
    """``w = 0``: the judge is not heard. Tag: ours."""
    zeros_P = torch.zeros_like(signal.outcome_spread_P)
    return zeros_P, zeros_P


GATES: Mapping[str, Callable[[_Signal], tuple[torch.Tensor, torch.Tensor]]] = {
    "std_ratio_mix": _std_ratio_mix,
    "std_ratio_reason": _std_ratio_reason,
    "hard": _hard,
    "none": _no_gate,
}
"""Variance-aware gates: signal -> (w, reliance on reasoning), both in [0, 1] per group."""


def _interval(mean_P: torch.Tensor, switches: AWPOSwitches) -> torch.Tensor:
    """``D = boost`` where the group's mean outcome is of medium size, else 1. Tag: reconstructed."""
    is_medium_P = (mean_P >= switches.difficulty_low) & (mean_P <= switches.difficulty_high)
    return torch.where(is_medium_P, switches.difficulty_boost, 1.0).to(mean_P.dtype)


DIFFICULTIES: Mapping[str, Callable[[torch.Tensor, AWPOSwitches], torch.Tensor]] = {
    "interval": _interval,
    "none": lambda mean_P, switches: torch.ones_like(mean_P),
}
"""Difficulty weights: (mean outcome on [0, 1], switches) -> D per group."""

CLIPS: Mapping[str, Callable[[float, float, AWPOSwitches], float]] = {
    "tighten": lambda epsilon, reliance, switches: epsilon / (1.0 + switches.clip_strength * reliance),
    "fixed": lambda epsilon, reliance, switches: epsilon,
}
"""Clip schedules: (epsilon, mean reliance on reasoning over the batch, switches) -> radius. Tag: reconstructed."""


def _skipped(unit_PG: torch.Tensor, valid_PG: torch.Tensor, switches: AWPOSwitches) -> torch.Tensor:
    is_right_P = ((unit_PG >= 1.0 - _SPREAD_TOLERANCE) | ~valid_PG).all(dim=1)
    is_wrong_P = ((unit_PG <= _SPREAD_TOLERANCE) | ~valid_PG).all(dim=1)
    return (is_right_P & (switches.all_right == "skip")) | (is_wrong_P & (switches.all_wrong == "skip"))


def _mean(values_PG: torch.Tensor, votes_PG: torch.Tensor) -> torch.Tensor:
    count_P = votes_PG.sum(dim=1).clamp_min(1)
    return torch.where(votes_PG, values_PG, 0.0).sum(dim=1) / count_P


def _spread(values_PG: torch.Tensor, votes_PG: torch.Tensor) -> torch.Tensor:
    """Sample standard deviation of the voting members; exactly 0 for fewer than two or for equal ones."""
    count_P = votes_PG.sum(dim=1)
    deviation_PG = torch.where(votes_PG, values_PG - _mean(values_PG, votes_PG)[:, None], 0.0)
    std_P = (deviation_PG.square().sum(dim=1) / (count_P - 1).clamp_min(1)).sqrt()
    return torch.where((deviation_PG.abs().amax(dim=1) <= _SPREAD_TOLERANCE) | (count_P < 2), 0.0, std_P)


def _normalised(values_PG: torch.Tensor, votes_PG: torch.Tensor) -> torch.Tensor:
    """``(x - mean) / (std + 1e-4)`` over the voting members, 0 for the others and for groups without spread."""
    spread_P1 = _spread(values_PG, votes_PG)[:, None]
    deviation_PG = values_PG - _mean(values_PG, votes_PG)[:, None]
    return torch.where(votes_PG & (spread_P1 > 0), deviation_PG / (spread_P1 + _STD_EPSILON), 0.0)

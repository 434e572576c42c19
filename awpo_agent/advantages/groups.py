"""Rewards of groups: read once, checked, and their means and spreads over the members that vote.

Spread is the sample standard deviation. Tag of all of it: ``ours``, where GRPO's papers leave the question open.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

STD_EPSILON = 1e-4  # added to every standard deviation, as in GRPO's common implementations
SPREAD_TOLERANCE = 1e-6  # rewards closer than this, or this share of them, are equal: a float's std need not be 0 there


@dataclass(frozen=True, slots=True)
class GroupRewards:
    """The rewards of a batch; places that must not be read hold 0.

    Attributes:
        outcome_PG: Outcomes as the environment gave them.
        unit_PG: Outcomes on [0, 1], by the range of their task.
        valid_PG: Which episodes have an outcome.
        reasoning_PG: Judge scores in [0, 1].
        votes_PG: Which episodes have both.
    """

    outcome_PG: torch.Tensor
    unit_PG: torch.Tensor
    valid_PG: torch.Tensor
    reasoning_PG: torch.Tensor
    votes_PG: torch.Tensor


def read_rewards(
    outcome_PG: torch.Tensor,
    outcome_range_P2: torch.Tensor,
    outcome_valid_PG: torch.Tensor,
    reasoning_PG: torch.Tensor,
    reasoning_valid_PG: torch.Tensor,
) -> GroupRewards:
    """Return the rewards an estimator works with, without gradients; see `Estimator` for the arguments.

    A task that allows one outcome only is solved by it: on [0, 1] it counts as 1.

    Raises:
        ValueError: A valid reward is not finite, or outside its range; or a range is none.
    """
    votes_PG = reasoning_valid_PG & outcome_valid_PG
    outcome_PG = torch.where(outcome_valid_PG, outcome_PG.detach(), 0.0)
    reasoning_PG = torch.where(votes_PG, reasoning_PG.detach(), 0.0)
    if not bool((outcome_range_P2.isfinite().all(dim=1) & (outcome_range_P2[:, 0] <= outcome_range_P2[:, 1])).all()):
        raise ValueError(f"outcome ranges are {outcome_range_P2.tolist()}, expected finite numbers, low <= high")
    low_P1, width_P1 = outcome_range_P2[:, :1], outcome_range_P2.diff(dim=1)
    above_PG = outcome_PG - low_P1
    unit_PG = torch.where(width_P1 > 0, above_PG / torch.where(width_P1 > 0, width_P1, 1.0), 1.0 + above_PG.abs())
    unit_PG = torch.where(outcome_valid_PG, unit_PG, 0.0)
    refuse_outside("outcome, on the range of its task,", unit_PG)
    refuse_outside("judge score", reasoning_PG)
    return GroupRewards(outcome_PG, unit_PG, outcome_valid_PG, reasoning_PG, votes_PG)


def refuse_outside(name: str, values: torch.Tensor) -> None:
    """Raise ValueError if one of the values is not a number in [0, 1]."""
    # Not "outside": a comparison with NaN is False.
    fits = (values >= -SPREAD_TOLERANCE) & (values <= 1.0 + SPREAD_TOLERANCE)
    if not bool(fits.all()):
        wrong = float(values[~fits][0])
        raise ValueError(f"a valid {name} is {wrong}, expected a number in [0, 1]; mark what is missing as invalid")


def mean(values_PG: torch.Tensor, votes_PG: torch.Tensor) -> torch.Tensor:
    """Return the mean of the voting members of each group, of shape (P,); 0 where nobody votes."""
    count_P = votes_PG.sum(dim=1).clamp_min(1)
    return torch.where(votes_PG, values_PG, 0.0).sum(dim=1) / count_P


def spread(values_PG: torch.Tensor, votes_PG: torch.Tensor) -> torch.Tensor:
    """Return the sample standard deviation of the voting members, of shape (P,).

    Exactly 0 for fewer than two of them or for equal ones, so that ``spread > 0`` asks whether there is a signal.
    """
    count_P = votes_PG.sum(dim=1)
    deviation_PG = torch.where(votes_PG, values_PG - mean(values_PG, votes_PG)[:, None], 0.0)
    std_P = (deviation_PG.square().sum(dim=1) / (count_P - 1).clamp_min(1)).sqrt()
    size_P = torch.where(votes_PG, values_PG, 0.0).abs().amax(dim=1).clamp_min(1.0)
    is_equal_P = deviation_PG.abs().amax(dim=1) <= SPREAD_TOLERANCE * size_P
    return torch.where(is_equal_P | (count_P < 2), 0.0, std_P)


def deviation(values_PG: torch.Tensor, votes_PG: torch.Tensor) -> torch.Tensor:
    """Return ``x - mean`` of the voting members; exactly 0 for the others and for groups without spread."""
    has_spread_P1 = (spread(values_PG, votes_PG) > 0)[:, None]
    return torch.where(votes_PG & has_spread_P1, values_PG - mean(values_PG, votes_PG)[:, None], 0.0)


def normalised(values_PG: torch.Tensor, votes_PG: torch.Tensor) -> torch.Tensor:
    """Return ``(x - mean) / (std + 1e-4)`` of the voting members; exactly 0 for the others and without spread."""
    return deviation(values_PG, votes_PG) / (spread(values_PG, votes_PG)[:, None] + STD_EPSILON)

"""The gradient probe against gradients written by hand."""

import math

import pytest
import torch

from awpo_agent.probes import gradient_probe

YES = torch.ones(2, 2, dtype=torch.bool)


def probe(scores, outcome_part, reasoning_part, trains=YES):
    """Episodes whose log-probability has the given gradient: logprob = scores . weights."""
    weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    scores = torch.tensor(scores, dtype=torch.float64)
    outcome_part, reasoning_part = (torch.tensor(part, dtype=torch.float64) for part in (outcome_part, reasoning_part))
    got = gradient_probe(
        [weights],
        lambda group, member: scores[group, member] @ weights,
        outcome_part + reasoning_part,
        reasoning_part,
        trains,
    )
    assert weights.grad is None
    return got


# Z of the four episodes, the same in both groups.
SAME = [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]


def test_by_hand():
    # Group means of A Z: outcome (1/2, 0) and (3/2, 0); judge (0, 1/2) and (0, -1/2): whole (1/2, 1/2), (3/2, -1/2).
    got = probe(SAME, [[1.0, 0.0], [3.0, 0.0]], [[0.0, 1.0], [0.0, -1.0]])
    # Products of the two groups: whole 3/4 - 1/4, outcome 3/4, judge -1/4. E|Z|^2 = 1, E[A^2] = 12/4, 10/4, 2/4.
    assert got["probe/alignment"] == pytest.approx(0.5 / 3, abs=1e-12)
    assert got["probe/alignment_outcome"] == pytest.approx(0.75 / 2.5, abs=1e-12)
    assert got["probe/alignment_reasoning"] == pytest.approx(-0.25 / 0.5, abs=1e-12)
    # Variance of the two means: their squared distance over 2, (1 + 1) / 2; two episodes a group.
    assert got["probe/noise_scale"] == pytest.approx(1.0 / 0.5 * 2, abs=1e-12)
    assert "probe/grad_cosine" not in got  # the judge's gradients cancel


def test_of_three_groups_by_hand():
    # With two groups P - 1 is 1 and hides. Means: outcome (1, 0), (2, 0), (3, 0); judge (0, 1), (0, 1), (0, -1).
    groups, yes = [[[2.0, 0.0], [0.0, 2.0]]] * 3, torch.ones(3, 2, dtype=torch.bool)
    got = probe(groups, [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]], [[0.0, 1.0], [0.0, 1.0], [0.0, -1.0]], yes)
    # Products of different groups over the 6 ordered pairs: outcome 22 / 6, judge -2 / 6. E|Z|^2 = 4.
    assert got["probe/alignment_outcome"] == pytest.approx(22 / 6 / (4 * 14 / 6), abs=1e-12)
    assert got["probe/alignment_reasoning"] == pytest.approx(-2 / 6 / (4 * 3 / 6), abs=1e-12)
    assert got["probe/alignment"] == pytest.approx(20 / 6 / (4 * 17 / 6), abs=1e-12)
    # Squared lengths 2, 5, 10 less |(6, 1)|^2 / 3, over 2; two episodes a group.
    assert got["probe/noise_scale"] == pytest.approx((17 - 37 / 3) / 2 / (20 / 6) * 2, abs=1e-12)
    assert got["probe/grad_cosine"] == pytest.approx(0.0, abs=1e-12)


def test_noise_has_no_scale_where_the_whole_is_silent_though_a_part_is_not():
    # The judge undoes the second group's outcome and more: products outcome 1, whole -1.
    got = probe(SAME, [[2.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [-4.0, 0.0]])
    assert got["probe/alignment_outcome"] > 0 > got["probe/alignment"]
    assert "probe/noise_scale" not in got


@pytest.mark.parametrize("angle", [0.0, 60.0, 90.0, 180.0])
def test_the_cosine_is_that_of_the_two_gradients(angle):
    turned = [math.cos(math.radians(angle)), math.sin(math.radians(angle))]
    got = probe([[[2.0, 0.0], turned]] * 2, [[1.0, 0.0]] * 2, [[0.0, 0.25]] * 2)
    assert got["probe/grad_cosine"] == pytest.approx(math.cos(math.radians(angle)), abs=1e-12)


def test_groups_that_agree_are_all_signal():
    got = probe([[[1.0, 0.0], [-1.0, 0.0]]] * 2, [[1.0, -1.0]] * 2, [[0.0, 0.0]] * 2)
    assert got == {
        "probe/alignment": pytest.approx(1.0, abs=1e-12),
        "probe/alignment_outcome": pytest.approx(1.0, abs=1e-12),
        "probe/noise_scale": pytest.approx(0.0, abs=1e-12),
    }


def test_what_does_not_train_is_not_looked_at():
    trains = torch.tensor([[True, False], [True, True], [False, False]])
    poisoned = [[[1.0, 0.0], [math.nan] * 2], [[1.0, 0.0], [0.0, 1.0]], [[math.nan] * 2] * 2]
    got = probe(poisoned, [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0]] * 3, trains)
    # Group means (1, 0) and (1/2, 1/2), their product 1/2; three episodes of |Z| = 1 and A = 1.
    assert got["probe/alignment"] == pytest.approx(0.5, abs=1e-12)
    assert got["probe/noise_scale"] == pytest.approx(0.25 / 0.5 * 1.5, abs=1e-12)


def test_what_cannot_be_estimated_is_left_out():
    assert probe(SAME, [[1.0, 0.0]] * 2, [[0.0, 0.0]] * 2, torch.tensor([[True, True], [False, False]])) == {}
    assert probe([[[0.0, 0.0]] * 2] * 2, [[1.0, 0.0]] * 2, [[0.0, 0.0]] * 2) == {}
    assert probe(SAME, [[0.0, 0.0]] * 2, [[0.0, 0.0]] * 2) == {}
    against = probe(SAME, [[1.0, 0.0], [-1.0, 0.0]], [[0.0, 0.0]] * 2)
    assert against == {"probe/alignment": pytest.approx(-0.5), "probe/alignment_outcome": pytest.approx(-0.5)}


def test_a_parameter_that_takes_no_part_counts_as_zero():
    weights = [torch.zeros(1, requires_grad=True), torch.zeros(3, requires_grad=True)]
    got = gradient_probe(
        weights, lambda group, member: weights[0].sum(), torch.ones(2, 1), torch.zeros(2, 1), YES[:, :1]
    )
    assert got["probe/alignment"] == 1.0


def test_half_precision_is_added_up_in_single():
    # bfloat16 has no 1 + 2^-10. One episode a group, Z = 1 and A the same in both: all signal.
    weight, advantages = torch.zeros(1, dtype=torch.bfloat16, requires_grad=True), torch.full((2, 1), 1 + 2**-10)
    got = gradient_probe([weight], lambda group, member: weight.sum(), advantages, torch.zeros(2, 1), YES[:, :1])
    assert got["probe/alignment"] == pytest.approx(1.0, abs=1e-6)

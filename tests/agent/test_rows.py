"""Estimators for rows: the same advantages as for groups, whatever the order and the group sizes."""

import math

import pytest
import torch

from awpo_agent.advantages import ALL_OFF, AWPOSwitches, awpo, estimate_rows, grpo

PROMPTS = ["b", "a", "b", "c", "a", "b"]
OUTCOME = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, math.nan], dtype=torch.float64)
JUDGE = torch.tensor([0.9, 0.2, 0.1, 0.5, math.nan, 0.7], dtype=torch.float64)


def of_group(*rows, estimator=awpo, **arguments):
    outcome, judge = OUTCOME[list(rows)][None], JUDGE[list(rows)][None]
    ranges = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    return estimator(outcome, ranges, ~outcome.isnan(), judge, ~judge.isnan(), epsilon=0.2, **arguments)


def test_rows_get_what_their_group_gets():
    advantages_B, _ = estimate_rows(awpo, PROMPTS, OUTCOME, JUDGE)
    for rows in ((1, 4), (0, 2, 5), (3,)):
        assert torch.allclose(advantages_B[list(rows)], of_group(*rows).advantages_PG[0], rtol=0, atol=1e-12)
    assert advantages_B.tolist()[3] == advantages_B.tolist()[5] == 0.0
    assert (advantages_B[[0, 1, 2, 4]] != 0).all()


def test_the_clip_radius_is_that_of_the_batch():
    _, epsilon = estimate_rows(awpo, PROMPTS[:3:2], OUTCOME[:3:2], JUDGE[:3:2], epsilon=0.1)
    assert epsilon == of_group(0, 2).clip_epsilon / 2 < 0.1
    assert estimate_rows(grpo, PROMPTS, OUTCOME, JUDGE)[1] == 0.2


def test_range_and_switches_reach_the_estimator():
    got, _ = estimate_rows(awpo, PROMPTS, 4 * OUTCOME, JUDGE, outcome_range=(0.0, 4.0), switches=ALL_OFF)
    want, _ = estimate_rows(grpo, PROMPTS, 4 * OUTCOME, JUDGE, outcome_range=(0.0, 4.0))
    assert torch.equal(got, want)
    off, _ = estimate_rows(awpo, PROMPTS, OUTCOME, JUDGE, switches=AWPOSwitches(difficulty="none"))
    assert not torch.equal(off, estimate_rows(awpo, PROMPTS, OUTCOME, JUDGE)[0])
    with pytest.raises(ValueError, match="outcome"):
        estimate_rows(awpo, PROMPTS, 4 * OUTCOME, JUDGE)


def test_the_score_of_a_group_s_solution_reaches_its_rows():
    prompts, outcome, judge = ["a", "b", "a", "b", "a"], torch.zeros(5), torch.tensor([0.2, 0.2, 0.6, 0.6, 0.6])
    heard, epsilon = estimate_rows(awpo, prompts, outcome, judge, reference_B=torch.tensor([0.9, 0.3, 0.9, 0.3, 0.9]))
    # The first row failed worse than the third; of the other group's solution the judge thinks little.
    assert heard[0] < 0 and heard[1:].tolist() == [0.0] * 4 and epsilon == 0.1
    assert estimate_rows(awpo, prompts, outcome, judge)[0].tolist() == [0.0] * 5


def test_a_single_failure_is_compared_with_its_own_solution():
    # Alone in its group: with the solution's 0.9 the mean is 0.55, 0.35 above it; lambda 1/2, unit 1/4.
    want = -0.5 * 0.35 / (0.5 * 0.25 + 1e-4)
    judge, reference = torch.tensor([0.2, 0.5, 0.5]), torch.tensor([0.9, math.nan, math.nan])
    beside, _ = estimate_rows(awpo, ["a", "b", "b"], torch.zeros(3), judge, reference_B=reference)
    assert beside.tolist() == pytest.approx([want, 0.0, 0.0], abs=1e-6)
    alone, epsilon = estimate_rows(awpo, ["a"], torch.zeros(1), judge[:1], reference_B=reference[:1])
    assert (alone.tolist(), epsilon) == (pytest.approx([want], abs=1e-6), 0.1)


def test_groups_may_be_numbers():
    numbers = [ord(prompt) for prompt in PROMPTS]
    want, got = estimate_rows(awpo, PROMPTS, OUTCOME, JUDGE), estimate_rows(awpo, numbers, OUTCOME, JUDGE)
    assert torch.equal(got[0], want[0])


def test_groups_may_be_a_tensor_and_rewards_of_any_kind():
    numbers = torch.tensor([ord(prompt) for prompt in PROMPTS])
    want, _ = estimate_rows(awpo, PROMPTS, OUTCOME, JUDGE)
    assert torch.equal(estimate_rows(awpo, numbers, OUTCOME, JUDGE)[0], want)
    mixed, _ = estimate_rows(awpo, PROMPTS, OUTCOME.float(), JUDGE)
    assert mixed.dtype == torch.float64 and torch.equal(mixed, want)
    half, _ = estimate_rows(awpo, PROMPTS, OUTCOME, JUDGE.half())
    assert torch.equal(half, estimate_rows(awpo, PROMPTS, OUTCOME, JUDGE.half().double())[0])
    whole, _ = estimate_rows(grpo, ["a", "a"], torch.tensor([1, 0]), torch.tensor([math.nan, math.nan]))
    assert whole.tolist() == pytest.approx([0.7070, -0.7070], abs=1e-4)


@pytest.mark.parametrize("num_rows", [(5, 6, 6), (6, 5, 6), (6, 6, 5), (0, 0, 0)])
def test_rows_that_do_not_match_are_refused(num_rows):
    prompts, outcome, judge = (part[:count] for part, count in zip((PROMPTS, OUTCOME, JUDGE), num_rows, strict=True))
    with pytest.raises(
        ValueError, match=f"{num_rows[0]} groups, {num_rows[1]} outcomes and {num_rows[2]} judge scores"
    ):
        estimate_rows(awpo, prompts, outcome, judge)

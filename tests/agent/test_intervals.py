"""Intervals: Wilson's numbers by hand, pass@k and pass^k by counting, and bootstrap over tasks."""

import itertools
import math

import numpy as np
import pytest

from awpo_agent.intervals import Estimate, mean_rate, pass_at_k, pass_hat_k, success_rate


@pytest.mark.parametrize(("successes", "episodes"), [(0, 10), (3, 10), (10, 10), (128, 256), (1, 1)])
def test_wilson_by_its_formula(successes, episodes):
    z, share = 1.959963984540054, successes / episodes
    centre = (share + z**2 / (2 * episodes)) / (1 + z**2 / episodes)
    half = z / (1 + z**2 / episodes) * math.sqrt(share * (1 - share) / episodes + z**2 / (4 * episodes**2))
    got = success_rate(successes, episodes)
    assert got.value == share
    assert (got.low, got.high) == (pytest.approx(centre - half, abs=1e-12), pytest.approx(centre + half, abs=1e-12))


def test_wilson_in_a_textbook():
    # 8 of 10: 49.0 % to 94.3 %, as every table of Wilson intervals has it.
    got = success_rate(8, 10)
    assert (round(got.low, 4), round(got.high, 4)) == (0.4902, 0.9433)
    assert str(got) == " 80.0% [49.0%, 94.3%]"


def test_pass_at_k_and_pass_hat_k_by_hand():
    # Four tries, two of them right. Of the six pairs five hold a success and one holds two.
    assert pass_at_k([2], 4, 1).value == pass_hat_k([2], 4, 1).value == 0.5
    assert pass_at_k([2], 4, 2).value == pytest.approx(5 / 6, abs=1e-12)
    assert pass_hat_k([2], 4, 2).value == pytest.approx(1 / 6, abs=1e-12)
    assert (pass_at_k([2], 4, 3).value, pass_hat_k([2], 4, 3).value) == (1.0, 0.0)
    assert pass_at_k([2, 0], 4, 2).value == pytest.approx(5 / 12, abs=1e-12)


@pytest.mark.parametrize("num_tries", [1, 3, 5])
def test_pass_at_k_counts_subsets(num_tries):
    for count in range(num_tries + 1):
        tries = [True] * count + [False] * (num_tries - count)
        for k in range(1, num_tries + 1):
            subsets = list(itertools.combinations(tries, k))
            assert pass_at_k([count], num_tries, k).value == pytest.approx(
                np.mean([any(s) for s in subsets]), abs=1e-12
            )
            assert pass_hat_k([count], num_tries, k).value == pytest.approx(
                np.mean([all(s) for s in subsets]), abs=1e-12
            )


def test_intervals_over_tasks():
    counts = [0, 4, 4, 1, 2, 3, 4, 0, 2, 2] * 4
    got = pass_at_k(counts, 4, 1)
    values = np.array(counts) / 4
    normal = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    assert got.value == pytest.approx(values.mean())
    assert got.low == pytest.approx(values.mean() - normal, abs=0.02)
    assert got.high == pytest.approx(values.mean() + normal, abs=0.02)
    assert got == pass_at_k(counts, 4, 1)
    assert got == mean_rate(values)


def test_tasks_that_are_all_alike_leave_as_much_open_as_single_tries():
    assert pass_at_k([4, 4, 4], 4, 1) == success_rate(3, 3)
    assert pass_hat_k([0, 0], 4, 2) == success_rate(0, 2)
    half = mean_rate([0.5] * 10)
    assert half == Estimate(0.5, success_rate(5, 10).low, success_rate(5, 10).high)
    assert mean_rate([0.25]).low < 0.25 < mean_rate([0.25]).high


def test_tries_at_one_task_are_no_more_tasks():
    few, many = mean_rate([0.0, 1.0] * 5), mean_rate([0.0, 1.0] * 80)
    assert few.high - few.low > 3 * (many.high - many.low)

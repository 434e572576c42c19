"""The estimators AWPO is compared with: hand-computed groups, and what all of them share."""

import inspect
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from awpo_agent.advantages import ESTIMATORS, GATES, AWPOSwitches, dr_grpo, gdpo, grpo, mixed, papo, rloo

E = 1e-4
NONE = None  # a broken environment, or no score
ALL = pytest.mark.parametrize("name", sorted(ESTIMATORS))


def tensors(outcomes, judge=None, low=0.0, high=1.0):
    """Estimator arguments of lists of groups; garbage stands where a value is missing."""
    judge = judge if judge is not None else [[NONE] * len(group) for group in outcomes]
    made = []
    for part in (outcomes, judge):
        made.append(
            torch.tensor([[math.nan if x is NONE else x for x in group] for group in part], dtype=torch.float64)
        )
        made.append(torch.tensor([[x is not NONE for x in group] for group in part]))
    ranges = torch.tensor([[low, high]], dtype=torch.float64).repeat(len(outcomes), 1)
    return made[0], ranges, *made[1:]


def estimate(estimator, outcomes, judge=None, *, low=0.0, high=1.0, **switches):
    return estimator(*tensors(outcomes, judge, low, high), epsilon=0.2, switches=AWPOSwitches(**switches))


def values(result, group=0):
    return result.advantages_PG[group].tolist()


def close(*numbers):
    return pytest.approx(list(numbers), rel=0, abs=1e-12)


# ---- by hand


def test_dr_grpo_by_hand():
    assert values(estimate(dr_grpo, [[1.0, 0.0]])) == close(0.5, -0.5)
    assert values(estimate(dr_grpo, [[1.0, 0.0, 0.0, 0.0]])) == close(0.75, -0.25, -0.25, -0.25)
    # In units of the outcome, and among those who have one.
    got = estimate(dr_grpo, [[4.0, NONE, 0.0, 2.0]], low=-3.0, high=4.0)
    assert values(got) == close(2.0, 0.0, -2.0, 0.0)


def test_rloo_by_hand():
    assert values(estimate(rloo, [[1.0, 0.0]])) == close(1.0, -1.0)  # each is compared with the other one
    assert values(estimate(rloo, [[1.0, 0.0, 0.0, 0.0]])) == close(1.0, -1 / 3, -1 / 3, -1 / 3)
    # Three have an outcome: 4 against (0 + 2) / 2, 0 against 3, 2 against 2.
    got = estimate(rloo, [[4.0, NONE, 0.0, 2.0]], low=-3.0, high=4.0)
    assert values(got) == close(3.0, 0.0, -3.0, 0.0)
    assert values(estimate(rloo, [[1.0, NONE]])) == [0.0, 0.0]


def test_mixed_by_hand():
    # o + q / 2 of outcomes 1, 0 and scores 0.8, 0.4 is 1.4, 0.2.
    std = 1.2 / math.sqrt(2) + E
    got = estimate(mixed, [[1.0, 0.0]], [[0.8, 0.4]])
    assert values(got) == close(0.6 / std, -0.6 / std)
    assert got.reasoning_part_PG[0].tolist() == close(0.1 / std, -0.1 / std)
    # Of four, on the range [-1, 3]: units 1, 0, 0, 0; scores 0.9, 0.5, 0.1, 0.5; deviations 0.95, -0.25, -0.45, -0.25.
    std = math.sqrt(1.23 / 3) + E
    got = estimate(mixed, [[3.0, -1.0, -1.0, -1.0]], [[0.9, 0.5, 0.1, 0.5]], low=-1.0, high=3.0)
    assert values(got) == close(0.95 / std, -0.25 / std, -0.45 / std, -0.25 / std)
    # Weights: 0 (o - mean) + 2 (q - mean) leaves the judge alone, who then is normalised.
    got = estimate(mixed, [[1.0, 0.0]], [[0.4, 0.8]], outcome_weight=0.0, coefficient=2.0)
    std = 0.8 / math.sqrt(2) + E
    assert values(got) == close(-0.4 / std, 0.4 / std)


def test_gdpo_by_hand():
    # First group: outcome 1, 0 and judge 0.4, 0.8: A_o = +-a, A_q = -+b. Second: the judge alone, +-b.
    a, b = 0.5 / (math.sqrt(0.5) + E), 0.2 / (math.sqrt(0.08) + E)
    first, second = a - 0.5 * b, 0.5 * b
    std = math.sqrt((2 * first**2 + 2 * second**2) / 3) + E
    got = estimate(gdpo, [[1.0, 0.0], [0.0, 0.0]], [[0.4, 0.8], [0.8, 0.4]])
    assert values(got, 0) == close(first / std, -first / std)
    assert values(got, 1) == close(second / std, -second / std)
    assert got.reasoning_part_PG[0].tolist() == close(-0.5 * b / std, 0.5 * b / std)
    # Four in one group: A_o of 1 0 0 0 is 1.5, -0.5 (over 0.5 + e twice); A_q of 0.9 0.5 0.1 0.5.
    s_q = math.sqrt(0.32 / 3) + E
    total = [
        2 * o / (0.5 + E) + q / s_q for o, q in zip((0.75, -0.25, -0.25, -0.25), (0.4, 0.0, -0.4, 0.0), strict=True)
    ]
    std = math.sqrt(sum(value**2 for value in total) / 3) + E
    got = estimate(gdpo, [[1.0, 0.0, 0.0, 0.0]], [[0.9, 0.5, 0.1, 0.5]], outcome_weight=2.0, coefficient=1.0)
    assert values(got) == close(*(value / std for value in total))


def test_gdpo_leaves_the_broken_out_of_the_batch():
    got = estimate(gdpo, [[1.0, 0.0], [NONE, NONE], [NONE, 1.0]])
    a = 0.5 / (math.sqrt(0.5) + E)
    std = math.sqrt(2 * a**2 / 2) + E  # three of six train, one of them alone
    assert values(got, 0) == close(a / std, -a / std)
    assert values(estimate(gdpo, [[0.0, 0.0]], [[0.3, 0.3]])) == [0.0, 0.0]


@pytest.mark.parametrize("estimator", [mixed, gdpo])
def test_a_judge_who_undoes_the_outcome_leaves_neither_part(estimator):
    got = estimate(estimator, [[1.0, 0.0]], [[0.0, 1.0]], coefficient=1.0)
    assert got.advantages_PG.tolist() == got.reasoning_part_PG.tolist() == [[0.0, 0.0]]


def test_papo_by_hand():
    # Correct are the first two: their scores 0.9, 0.5 have deviations +-0.2; the others' scores do not matter.
    a, b = 0.5 / (math.sqrt(1 / 3) + E), 0.2 / (math.sqrt(0.08) + E)
    got = estimate(papo, [[1.0, 1.0, 0.0, 0.0]], [[0.9, 0.5, 1.0, 0.0]], coefficient=1.0)
    assert values(got) == close(a + b, a - b, -a, -a)
    assert got.reasoning_part_PG[0].tolist() == close(b, -b, 0.0, 0.0)
    # Two: one correct member has nobody to be compared with.
    assert values(estimate(papo, [[1.0, 0.0]], [[0.9, 0.1]])) == values(estimate(grpo, [[1.0, 0.0]]))
    # Correct is who reaches the best of the range, and the judge keeps a solved group alive.
    assert values(estimate(papo, [[1.0, 1.0]], [[0.9, 0.5]], high=2.0)) == [0.0, 0.0]
    got = estimate(papo, [[2.0, 2.0]], [[0.9, 0.5]], high=2.0, coefficient=0.3, outcome_weight=0.5)
    assert values(got) == close(0.3 * b, -0.3 * b)
    got = estimate(papo, [[1.0, 0.0]], [[0.9, 0.5]], outcome_weight=0.5)
    assert values(got) == close(0.25 / (math.sqrt(0.5) + E), -0.25 / (math.sqrt(0.5) + E))


def test_papo_never_hears_the_judge_on_a_failure():
    for scores in ([0.1, 0.9, 0.5], [0.9, 0.1, NONE]):
        assert values(estimate(papo, [[0.0, 0.0, 0.0]], [scores])) == [0.0, 0.0, 0.0]


# ---- what all share


def random_batch(number, *, dtype=torch.float64, valid=0.8, judged=0.8):
    generator = torch.Generator().manual_seed(number)
    num_groups, size = 1 + number % 3, 1 + number % 6
    outcome, judge = torch.rand(2, num_groups, size, generator=generator, dtype=dtype)
    if number % 2:
        outcome = outcome.round()
    is_valid, is_judged = torch.rand(2, num_groups, size, generator=generator)
    ranges = torch.tensor([[0.0, 1.0]], dtype=dtype).repeat(num_groups, 1)
    return outcome, ranges, is_valid < valid, judge, is_judged < judged


def test_all_have_one_signature():
    want = inspect.signature(grpo)
    assert all(inspect.signature(estimator) == want for estimator in ESTIMATORS.values())
    names = ["outcome_PG", "outcome_range_P2", "outcome_valid_PG", "reasoning_PG", "reasoning_valid_PG"]
    assert list(want.parameters) == [*names, "epsilon", "reference_P", "switches"]


@ALL
def test_advantages_are_finite_and_average_to_zero(name):
    for number in range(40):
        arguments = random_batch(number)
        got = ESTIMATORS[name](*arguments, epsilon=0.2, switches=AWPOSwitches(coefficient=1.0))
        assert torch.isfinite(got.advantages_PG).all()
        assert (got.advantages_PG[~arguments[2]] == 0).all() and not (got.trains_PG & ~arguments[2]).any()
        whole = random_batch(number, valid=2.0, judged=2.0)
        got = ESTIMATORS[name](*whole, epsilon=0.2)
        assert got.advantages_PG.sum(dim=1).abs().max() < 1e-9
        assert got.advantages_PG.dtype == torch.float64


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_single_precision_stays_single_and_double_double(name, dtype):
    got = ESTIMATORS[name](*random_batch(4, dtype=dtype), epsilon=0.2)
    assert got.advantages_PG.dtype == got.gate_P.dtype == got.difficulty_P.dtype == dtype


@ALL
@pytest.mark.parametrize("gate", sorted(GATES))
def test_an_episode_without_a_score_has_no_reasoning_part(name, gate):
    for number in range(20):
        arguments = random_batch(number, judged=0.5)
        got = ESTIMATORS[name](*arguments, epsilon=0.2, switches=AWPOSwitches(gate=gate, all_right="reason"))
        assert (got.reasoning_part_PG[~(arguments[2] & arguments[4])] == 0).all()
        nobody = (*arguments[:4], torch.zeros_like(arguments[4]))
        got = ESTIMATORS[name](*nobody, epsilon=0.2, switches=AWPOSwitches(gate=gate, all_right="reason"))
        assert (got.reasoning_part_PG == 0).all()


@ALL
def test_an_episode_without_a_score_does_not_vote_in_the_judge_s_statistics(name):
    # The judged two are compared with each other alone, however many more there are.
    few = estimate(ESTIMATORS[name], [[1.0, 1.0]], [[0.9, 0.5]], all_right="reason")
    many = estimate(ESTIMATORS[name], [[1.0, 1.0, 1.0, 1.0]], [[0.9, 0.5, NONE, NONE]], all_right="reason")
    assert (few.reasoning_part_PG != 0).any() == (name in {"awpo", "gdpo", "mixed", "papo"})
    assert many.reasoning_part_PG[0, 2:].tolist() == [0.0, 0.0]
    assert many.reasoning_part_PG[0, 0].item() == pytest.approx(-many.reasoning_part_PG[0, 1].item(), rel=1e-12)


@ALL
def test_what_is_shared_by_all_members_is_no_advantage(name):
    scores = [0.2, 0.4, 0.1]
    got = estimate(ESTIMATORS[name], [[0.5, 0.0, 0.25]], [scores])
    shifted = estimate(ESTIMATORS[name], [[0.5, 0.0, 0.25]], [[score + 0.5 for score in scores]])
    assert torch.allclose(got.advantages_PG, shifted.advantages_PG, rtol=0, atol=1e-12)
    # Exactly nothing, though the mean of three 0.1 is not quite 0.1, and whatever happens in another group.
    equal = estimate(ESTIMATORS[name], [[0.1] * 3, [1.0, 0.0, 0.0]], [[0.1] * 3, [0.9, 0.1, 0.1]])
    assert values(equal, 0) == [0.0, 0.0, 0.0]


@ALL
def test_a_batch_of_groups_is_each_group_but_for_gdpo(name):
    outcomes, judge = [[1.0, 0.0, 0.25], [0.25, 1.0, 0.0]], [[0.9, 0.1, 0.5], [0.2, 0.8, NONE]]
    both = estimate(ESTIMATORS[name], outcomes, judge)
    alone = [estimate(ESTIMATORS[name], outcomes[group : group + 1], judge[group : group + 1]) for group in (0, 1)]
    for group in (0, 1):
        ratio = both.advantages_PG[group] / alone[group].advantages_PG[0]
        if name == "gdpo":
            assert ratio == pytest.approx(ratio[0].item(), abs=1e-9)
        else:
            assert ratio == pytest.approx(1.0, abs=1e-12)


@ALL
def test_only_awpo_moves_the_clip_gate_and_difficulty(name):
    got = estimate(ESTIMATORS[name], [[1.0, 0.0, 0.0]], [[0.9, 0.1, 0.9]])
    untouched = (got.clip_epsilon, got.gate_P.tolist(), got.difficulty_P.tolist()) == (0.2, [0.0], [1.0])
    assert untouched == (name != "awpo")


@ALL
@pytest.mark.parametrize("outcome", [math.nan, math.inf, -math.inf, 1.1, -0.1])
def test_an_outcome_that_cannot_be_is_refused(name, outcome):
    arguments = list(tensors([[1.0, 0.0]]))
    arguments[0][0, 1] = outcome
    with pytest.raises(ValueError, match=rf"outcome.* is {outcome}"):
        ESTIMATORS[name](*arguments, epsilon=0.2)


@ALL
@pytest.mark.parametrize("score", [math.nan, math.inf, 1.1, -0.1])
def test_a_score_that_cannot_be_is_refused(name, score):
    arguments = list(tensors([[1.0, 0.0]], [[0.5, 0.5]]))
    arguments[3][0, 0] = score
    with pytest.raises(ValueError, match=rf"judge score is {score}"):
        ESTIMATORS[name](*arguments, epsilon=0.2)
    arguments[4][0, 0] = False
    ESTIMATORS[name](*arguments, epsilon=0.2)


def test_rounding_is_not_out_of_range():
    third = sum([0.1] * 3)  # a little more than 0.3
    assert third > 0.3
    assert values(estimate(grpo, [[third, 0.0]], high=0.3))[0] > 0


def test_rloo_is_dr_grpo_on_a_larger_scale_and_grpo_is_both_without_scale():
    for number in range(20):
        arguments = random_batch(number)
        count_P1 = arguments[2].sum(dim=1, keepdim=True)
        fair = rloo(*arguments, epsilon=0.2).advantages_PG
        plain = dr_grpo(*arguments, epsilon=0.2).advantages_PG
        assert torch.allclose(fair * (count_P1 - 1), plain * count_P1, rtol=0, atol=1e-12)
        unit = grpo(*arguments, epsilon=0.2).advantages_PG
        assert torch.equal(unit.sign(), plain.sign())


def test_mixed_without_a_judge_is_grpo_on_the_unit_range():
    for number in range(20):
        arguments = random_batch(number)
        off = AWPOSwitches(coefficient=0.0)
        want = grpo(*arguments, epsilon=0.2).advantages_PG
        assert torch.allclose(mixed(*arguments, epsilon=0.2, switches=off).advantages_PG, want, rtol=0, atol=1e-12)
        assert torch.equal(papo(*arguments, epsilon=0.2, switches=off).advantages_PG, want)
        deaf = (*arguments[:4], torch.zeros_like(arguments[4]))
        on = replace(off, coefficient=3.0)
        assert torch.allclose(mixed(*deaf, epsilon=0.2, switches=on).advantages_PG, want, rtol=0, atol=1e-12)


def test_estimators_need_torch_and_nothing_else():
    blocked = ("transformers", "accelerate", "numpy", "gymnasium", "jsonschema", "awpo_env", "safetensors")
    code = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r} and not (name.startswith("numpy")):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocker())
import torch
from awpo_agent.advantages import awpo
yes = torch.ones(1, 2, dtype=torch.bool)
got = awpo(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), yes, torch.tensor([[0.5, 0.5]]), yes, epsilon=0.2)
print(got.advantages_PG[0, 0] > 0, sorted(set({blocked!r}) & set(sys.modules) - {{"numpy"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "tensor(True) []\n", done.stderr

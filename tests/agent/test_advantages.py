"""Estimators: hand-computed groups, the laws every batch obeys, and the edge cases of the method's notes."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from awpo_agent.advantages import (
    ALL_OFF,
    ALL_RIGHT_RULES,
    ALL_WRONG_RULES,
    CHOICES,
    CLIPS,
    DIFFICULTIES,
    ESTIMATORS,
    GATES,
    NOT_NEGATIVE,
    POSITIVE,
    SCALES,
    AWPOSwitches,
    awpo,
    groups,
    grpo,
    parts,
)

E = 1e-4  # what the estimators add to every standard deviation
GROUP_STD = AWPOSwitches(reasoning_scale="group_std")  # the scale that is easiest to work out by hand
HEARS = replace(GROUP_STD, all_right="reason", all_wrong="reason", judge_check="none")
PLAIN = replace(HEARS, difficulty="none", clip="fixed")
MISSING = None


def estimate(outcomes, judge=None, *, low=0.0, high=1.0, estimator=awpo, epsilon=0.2, reference=None, **arguments):
    """Run an estimator on lists of groups; None marks a broken environment or a missing score."""
    if reference is not None:
        arguments["reference_P"] = torch.tensor([math.nan if x is None else x for x in reference], dtype=torch.float64)
    if estimator is awpo:
        arguments.setdefault("switches", GROUP_STD)
    judge = judge if judge is not None else [[MISSING] * len(group) for group in outcomes]
    ranges = torch.tensor([[low, high]], dtype=torch.float64).repeat(len(outcomes), 1)
    tensors = []
    for part in (outcomes, judge):
        tensors.append(torch.tensor([[0.0 if x is None else x for x in group] for group in part], dtype=torch.float64))
        tensors.append(torch.tensor([[x is not None for x in group] for group in part]))
    outcome_PG, outcome_valid_PG, reasoning_PG, reasoning_valid_PG = tensors
    return estimator(
        outcome_PG, ranges, outcome_valid_PG, reasoning_PG, reasoning_valid_PG, epsilon=epsilon, **arguments
    )


def values(result, group=0):
    return result.advantages_PG[group].tolist()


def close(*numbers):
    return pytest.approx(list(numbers), rel=0, abs=1e-12)


# ---- by hand


def test_grpo_by_hand():
    # Two: mean 1/2, deviations +-1/2, sample variance (1/4 + 1/4) / 1 = 1/2.
    two = 0.5 / (math.sqrt(0.5) + E)
    assert values(estimate([[1.0, 0.0]], estimator=grpo)) == close(two, -two)
    # Four: mean 1/4, deviations 3/4 and -1/4, sample variance (9/16 + 3/16) / 3 = 1/4.
    assert values(estimate([[1.0, 0.0, 0.0, 0.0]], estimator=grpo)) == close(0.75 / (0.5 + E), *[-0.25 / (0.5 + E)] * 3)
    # Not only 0 and 1: 3, -1, 0, 2 has mean 1, deviations 2, -2, -1, 1, sample variance 10 / 3.
    std = math.sqrt(10 / 3) + E
    got = estimate([[3.0, -1.0, 0.0, 2.0]], estimator=grpo, low=-3.0, high=4.0)
    assert values(got) == close(2 / std, -2 / std, -1 / std, 1 / std)
    assert (got.clip_epsilon, got.gate_P.tolist(), got.difficulty_P.tolist()) == (0.2, [0.0], [1.0])


def test_grpo_over_valid_members_by_hand():
    # Of [1, broken, 0, 0] three vote: mean 1/3, sample variance (4/9 + 1/9 + 1/9) / 2 = 1/3.
    std = math.sqrt(1 / 3) + E
    got = estimate([[1.0, None, 0.0, 0.0]], estimator=grpo)
    assert values(got) == close(2 / 3 / std, 0.0, -1 / 3 / std, -1 / 3 / std)
    assert got.trains_PG.tolist() == [[True, False, True, True]]


def test_awpo_of_two_by_hand():
    # Outcomes 1, 0 and judge 0.8, 0.4 with lambda 0.5: the mix is 1.4, 0.2.
    s_o, s_m = 1.0 / math.sqrt(2), 1.2 / math.sqrt(2)
    gate = s_m / (s_o + s_m)
    advantage = (1 - gate) * 0.5 / (s_o + E) + gate * 0.6 / (s_m + E)
    got = estimate([[1.0, 0.0]], [[0.8, 0.4]])
    # The group's mean outcome is 1/2, medium difficulty: weight 1.5. Reliance 2w - 1 = 1/11 tightens the clip.
    assert values(got) == close(1.5 * advantage, -1.5 * advantage)
    assert got.gate_P.tolist() == close(1.2 / 2.2)
    assert got.difficulty_P.tolist() == [1.5]
    assert got.clip_epsilon == pytest.approx(0.2 / (1 + 1 / 11), abs=1e-12)


def test_awpo_of_four_by_hand():
    # Outcomes 1 0 0 0: deviations 3/4 and -1/4, s_o = 1/2. Judge 0.9 0.5 0.1 0.5: deviations 0.4 0 -0.4 0.
    # lambda 0.5: mixed deviations 0.95, -0.25, -0.45, -0.25; squares sum to 0.9025 + 0.0625 + 0.2025 + 0.0625 = 1.23.
    s_o, s_m = 0.5, math.sqrt(1.23 / 3)
    gate = s_m / (s_o + s_m)
    outcome = [0.75, -0.25, -0.25, -0.25]
    mixed = [0.95, -0.25, -0.45, -0.25]
    want = [1.5 * ((1 - gate) * o / (s_o + E) + gate * m / (s_m + E)) for o, m in zip(outcome, mixed, strict=True)]
    got = estimate([[1.0, 0.0, 0.0, 0.0]], [[0.9, 0.5, 0.1, 0.5]])
    assert values(got) == close(*want)
    assert got.gate_P.tolist() == close(gate)
    assert got.clip_epsilon == pytest.approx(0.2 / (1 + (2 * gate - 1)), abs=1e-12)


def test_the_gate_of_the_reason_ratio_by_hand():
    # As above, but w = lambda s_q / (s_o + lambda s_q) beside A_q: s_q = sqrt(0.32 / 3).
    s_o, s_q = 0.5, math.sqrt(0.32 / 3)
    gate = 0.5 * s_q / (s_o + 0.5 * s_q)
    outcome, judge = [0.75, -0.25, -0.25, -0.25], [0.4, 0.0, -0.4, 0.0]
    want = [(1 - gate) * o / (s_o + E) + gate * q / (s_q + E) for o, q in zip(outcome, judge, strict=True)]
    switches = replace(PLAIN, gate="std_ratio_reason", clip="tighten", clip_strength=2.0)
    got = estimate([[1.0, 0.0, 0.0, 0.0]], [[0.9, 0.5, 0.1, 0.5]], switches=switches)
    assert values(got) == close(*want)
    assert got.clip_epsilon == pytest.approx(0.2 / (1 + 2 * gate), abs=1e-12)


def test_the_hard_gate_listens_to_the_judge_only_where_outcomes_are_equal():
    s_q = math.sqrt(0.5) * 0.4 + E
    got = estimate([[1.0, 0.0], [0.0, 0.0]], [[0.4, 0.8], [0.4, 0.8]], switches=replace(PLAIN, gate="hard"))
    assert values(got, 0) == values(estimate([[1.0, 0.0]], estimator=grpo))
    assert values(got, 1) == close(-0.2 / s_q, 0.2 / s_q)
    assert got.gate_P.tolist() == [0.0, 1.0]


def test_the_mix_is_one_pooled_scale():
    """Gate G1: ``A = [2 (o - mu_o) + lambda (q - mu_q)] / (s_o + s_m)``, up to the constant beside each deviation."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        o, q = torch.rand(2, 1, 6, generator=generator, dtype=torch.float64)
        mixed = o + 0.5 * q
        s_o, s_m = o.std(), mixed.std()
        want = (2 * (o - o.mean()) + 0.5 * (q - q.mean())) / (s_o + s_m)
        got = estimate(o.tolist(), q.tolist(), switches=PLAIN).advantages_PG
        assert (got - want).abs().max() <= 2 * E / min(s_o, s_m) * want.abs().max()


def test_the_identity_is_exact_without_the_constant(monkeypatch):
    for module in (groups, parts):
        monkeypatch.setattr(module, "STD_EPSILON", 0.0)
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        o, q = torch.rand(2, 1, 6, generator=generator, dtype=torch.float64)
        s_o, s_q, s_m = o.std(), q.std(), (o + 0.5 * q).std()
        pooled = 2 * (o - o.mean()) + 0.5 * (q - q.mean())
        mix = estimate(o.tolist(), q.tolist(), switches=PLAIN)
        assert torch.allclose(mix.advantages_PG, pooled / (s_o + s_m), rtol=0, atol=1e-12)
        reason = estimate(o.tolist(), q.tolist(), switches=replace(PLAIN, gate="std_ratio_reason"))
        pooled = (o - o.mean()) + 0.5 * (q - q.mean())
        assert torch.allclose(reason.advantages_PG, pooled / (s_o + 0.5 * s_q), rtol=0, atol=1e-12)


# ---- laws

GROUP_VALUES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, allow_subnormal=False))
MAYBE = st.booleans()
GATE_NAMES = st.sampled_from(sorted(GATES))
SWITCHES = st.builds(
    AWPOSwitches,
    gate=GATE_NAMES,
    coefficient=st.floats(0, 4, allow_subnormal=False),
    reasoning_floor=st.sampled_from([0.0, 0.02]),
    outcome_weight=st.sampled_from([0.0, 0.5, 1.0]),
    all_right=st.sampled_from(ALL_RIGHT_RULES),
    all_wrong=st.sampled_from(ALL_WRONG_RULES),
    judge_check=st.sampled_from(CHOICES["judge_check"]),
    reasoning_scale=st.sampled_from(sorted(SCALES)),
    difficulty=st.sampled_from(sorted(DIFFICULTIES)),
    clip=st.sampled_from(sorted(CLIPS)),
    clip_strength=st.floats(0, 5),
)


@st.composite
def batches(draw, judged=MAYBE, valid=MAYBE):
    """Lists of groups of outcomes and judge scores; None where there is none."""
    num_groups, size = draw(st.integers(1, 3)), draw(st.integers(1, 5))

    def groups(present):
        return [[draw(GROUP_VALUES) if draw(present) else None for _ in range(size)] for _ in range(num_groups)]

    return groups(valid), groups(judged)


REFERENCES = st.lists(st.one_of(st.none(), GROUP_VALUES), min_size=3, max_size=3)
everyone = batches(judged=st.just(True), valid=st.just(True))
law = settings(max_examples=60, deadline=None, derandomize=True)


@law
@given(batches(), SWITCHES, REFERENCES)
def test_nothing_is_ever_infinite_and_bounds_hold(batch, switches, references):
    got = estimate(*batch, switches=switches, reference=references[: len(batch[0])])
    assert torch.isfinite(got.advantages_PG).all() and torch.isfinite(got.difficulty_P).all()
    assert ((got.gate_P >= 0) & (got.gate_P <= 1)).all()
    assert (got.difficulty_P >= 1).all()
    lower, upper = {"tighten": (1 / 6, 1), "fixed": (1, 1), "widen": (1, 6)}[switches.clip]
    assert 0.2 * lower - 1e-12 <= got.clip_epsilon <= 0.2 * upper + 1e-12
    assert (got.advantages_PG[~got.trains_PG] == 0).all()
    for advantages, weight, scores, own in zip(got.advantages_PG, got.difficulty_P, batch[1], references, strict=False):
        # V <= D^2 under group_std; a fixed scale allows the mix twice that, and more of a judge louder than its unit.
        spoken = torch.tensor([score for score in [*scores, own] if score is not None], dtype=torch.float64)
        loud = 2 * max(1.0, float(spoken.var()) / switches.reasoning_unit**2) if len(spoken) > 1 else 1.0
        # The solution may spread the scores of a group that it joins, or stay out of one whose scores it would calm.
        heard = torch.tensor([score for score in scores if score is not None], dtype=torch.float64)
        loud = max(loud, 2 * float(heard.var()) / switches.reasoning_unit**2) if len(heard) > 1 else loud
        bound = weight**2 * (loud if switches.reasoning_scale == "fixed" else 1.0)
        assert advantages.square().mean() <= bound + 1e-9


def test_the_bound_of_a_fixed_scale_is_not_that_of_unit_variance():
    # s_o^2 = 1/8 and s_q = 0.7 s_o, below the unit; the mix is 1.35 times the outcome, its scale is less than that.
    switches = replace(PLAIN, reasoning_scale="fixed")
    got = estimate([[1.0, *[0.0] * 7]], [[0.9, *[0.2] * 7]], switches=switches)
    s_o = math.sqrt(1 / 8)
    gate, scale = 1.35 / 2.35, math.sqrt(1 / 8 + 0.125**2)
    one = (1 - gate) / (s_o + E) + gate * 1.35 / (scale + E)
    assert got.advantages_PG.square().mean().item() == pytest.approx(one**2 * 7 / 64, abs=1e-12)
    assert 1.0 < got.advantages_PG.square().mean() < 2.0


@law
@given(batches(), SWITCHES, REFERENCES)
def test_a_judge_without_weight_leaves_grpo(batch, switches, references):
    outcomes, judge = batch
    switches = replace(switches, coefficient=0.0, outcome_weight=1.0, difficulty="none")
    if switches.gate == "std_ratio_reason" and switches.reasoning_scale == "group_std":
        switches = replace(switches, reasoning_floor=0.0)
    got = estimate(outcomes, judge, switches=switches, reference=references[: len(outcomes)])
    want = estimate(outcomes, estimator=grpo)
    assert torch.allclose(got.advantages_PG, want.advantages_PG, rtol=0, atol=1e-9)
    assert got.clip_epsilon == pytest.approx(0.2, abs=1e-9)


@law
@given(everyone, SWITCHES)
def test_advantages_of_judged_groups_average_to_zero(batch, switches):
    got = estimate(*batch, switches=switches, reference=[0.5] * len(batch[0]))
    means = got.advantages_PG.mean(dim=1)
    is_blamed = torch.tensor([switches.all_wrong == "blame" and not any(outcomes) for outcomes in batch[0]])
    assert torch.where(is_blamed, 0.0, means).abs().max() < 1e-9
    assert (got.advantages_PG[is_blamed] <= 0).all()


@law
@given(batches(), SWITCHES, st.floats(0.01, 0.5))
def test_a_judge_that_is_kinder_to_all_changes_nothing(batch, switches, shift):
    outcomes, judge = batch
    halved = [[None if score is None else score / 2 for score in group] for group in judge]
    kinder = [[None if score is None else score + shift for score in group] for group in halved]
    spreads = [[score for score in group if score is not None] for group in halved]
    if any(abs(torch.tensor(group).std() - switches.reasoning_floor) < 1e-6 for group in spreads if len(group) > 1):
        return  # at the floor itself one rounding decides
    one, other = (
        estimate(outcomes, scores, switches=switches, reference=[0.25 + more] * len(outcomes))
        for scores, more in ((halved, 0.0), (kinder, shift))
    )
    assert torch.allclose(one.advantages_PG, other.advantages_PG, atol=1e-7)
    assert torch.allclose(one.gate_P, other.gate_P, atol=1e-7)
    assert one.clip_epsilon == pytest.approx(other.clip_epsilon, abs=1e-7)


@law
@given(batches(), SWITCHES, st.randoms(use_true_random=False))
def test_order_does_not_matter(batch, switches, random):
    size, num_groups = len(batch[0][0]), len(batch[0])
    members, groups = random.sample(range(size), size), random.sample(range(num_groups), num_groups)
    moved = [[[part[group][member] for member in members] for group in groups] for part in batch]
    known = [0.3, None, 0.8][:num_groups]
    one = estimate(*batch, switches=switches, reference=known)
    other = estimate(*moved, switches=switches, reference=[known[group] for group in groups])
    assert torch.allclose(one.advantages_PG[groups][:, members], other.advantages_PG, atol=1e-9)
    assert torch.equal(one.trains_PG[groups][:, members], other.trains_PG)
    assert torch.allclose(one.gate_P[groups], other.gate_P, atol=1e-9)
    assert one.clip_epsilon == pytest.approx(other.clip_epsilon, abs=1e-9)


@law
@given(everyone, GATE_NAMES, st.sampled_from([0.25, 0.5]))
def test_scaling_outcome_and_judge_together_leaves_the_gate(batch, gate, factor):
    switches = replace(PLAIN, gate=gate, reasoning_floor=0.0)
    steps = [[[round(value * 16) / 16 for value in group] for group in part] for part in batch]
    scaled = [[[value * factor for value in group] for group in part] for part in steps]
    one, other = estimate(*steps, switches=switches), estimate(*scaled, switches=switches)
    assert torch.allclose(one.gate_P, other.gate_P, rtol=0, atol=1e-12)


@law
@given(batches(), SWITCHES, st.sampled_from([(-3.0, 4.0), (0.0, 2.0), (5.0, 9.0)]))
def test_gate_difficulty_and_clip_live_on_the_range_of_the_task(batch, switches, ends):
    outcomes, judge = [[[None if v is None else round(v * 16) / 16 for v in g] for g in part] for part in batch]
    low, high = ends
    stretched = [[None if value is None else low + (high - low) * value for value in group] for group in outcomes]
    one = estimate(outcomes, judge, switches=switches)
    other = estimate(stretched, judge, low=low, high=high, switches=switches)
    assert torch.allclose(one.gate_P, other.gate_P, atol=1e-9)
    assert torch.equal(one.trains_PG, other.trains_PG)
    assert torch.equal(one.difficulty_P, other.difficulty_P)
    assert one.clip_epsilon == pytest.approx(other.clip_epsilon, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_all_switches_off_is_grpo_bit_for_bit(dtype):
    generator = torch.Generator().manual_seed(0)
    for number in range(300):
        num_groups, size = 1 + number % 4, 1 + number % 9
        values_PG = torch.randn(2, num_groups, size, generator=generator, dtype=dtype)
        if number % 3 == 0:
            values_PG = values_PG.round()
        ranges = torch.tensor([[-8.0, 8.0]], dtype=dtype).repeat(num_groups, 1)
        judge = torch.rand(num_groups, size, generator=generator, dtype=dtype)
        valid, judged = torch.rand(2, num_groups, size, generator=generator) < 0.8
        outcome = torch.where(valid, values_PG[0], torch.nan)
        arguments = (outcome, ranges, valid, torch.where(judged, judge, torch.inf), judged)
        want, got = grpo(*arguments, epsilon=0.3), awpo(*arguments, epsilon=0.3, switches=ALL_OFF)
        assert torch.equal(got.advantages_PG, want.advantages_PG) and torch.isfinite(want.advantages_PG).all()
        assert torch.equal(got.trains_PG, want.trains_PG)
        assert torch.equal(got.gate_P, want.gate_P) and torch.equal(got.difficulty_P, want.difficulty_P)
        assert got.clip_epsilon == want.clip_epsilon == 0.3


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@pytest.mark.parametrize("gate", sorted(GATES))
def test_what_is_invalid_is_never_read(name, gate):
    arguments = {} if name == "grpo" else {"switches": replace(GROUP_STD, gate=gate)}
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        outcome, judge = torch.rand(2, 4, 5, generator=generator, dtype=torch.float64)
        valid, judged = torch.rand(2, 4, 5, generator=generator) < 0.6
        ranges = torch.tensor([[0.0, 1.0]], dtype=torch.float64).repeat(4, 1)
        results = [
            ESTIMATORS[name](
                torch.where(valid, outcome, garbage),
                ranges,
                valid,
                torch.where(judged & valid, judge, garbage),
                judged,
                epsilon=0.2,
                **arguments,
            )
            for garbage in (0.0, 1e9, -1e9, torch.nan, torch.inf)
        ]
        for other in results[1:]:
            assert torch.equal(results[0].advantages_PG, other.advantages_PG)
            assert torch.equal(results[0].gate_P, other.gate_P)
            assert torch.equal(results[0].trains_PG, other.trains_PG)
            assert results[0].clip_epsilon == other.clip_epsilon
        assert torch.equal(results[0].trains_PG & ~valid, torch.zeros_like(valid))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 5.0])
def test_the_clip_never_widens_with_reliance(strength):
    switches = replace(GROUP_STD, clip_strength=strength)
    radii = [CLIPS["tighten"](0.2, reliance / 100, switches) for reliance in range(101)]
    assert radii[0] == 0.2
    assert all(0 < later <= earlier for earlier, later in itertools.pairwise(radii))
    assert strength == 0 or radii[-1] == pytest.approx(0.2 / (1 + strength))
    assert CLIPS["fixed"](0.2, 1.0, switches) == 0.2


def test_a_louder_judge_tightens_the_clip_of_the_batch():
    radii = [
        estimate([[1.0, 0.0, 0.0, 1.0]], [[0.5, 0.5 - spread, 0.5 + spread, 0.5]]).clip_epsilon
        for spread in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    ]
    assert radii[0] == 0.2
    assert all(later <= earlier for earlier, later in itertools.pairwise(radii)) and radii[-1] < 0.2


def test_the_clip_may_widen_instead():
    switches = replace(HEARS, clip="widen", clip_strength=0.5)
    assert [CLIPS["widen"](0.2, reliance, switches) for reliance in (0.0, 0.5, 1.0)] == close(0.2, 0.25, 0.3)
    # By hand: outcomes all wrong, so the judge alone, reliance 1.
    assert estimate([[0.0, 0.0]], [[0.2, 0.8]], switches=switches).clip_epsilon == pytest.approx(0.3, abs=1e-12)


@law
@given(batches(), SWITCHES, REFERENCES)
def test_outcome_and_judge_are_parts_of_a_whole(batch, switches, references):
    outcomes, judge = batch
    got = estimate(outcomes, judge, switches=switches, reference=references[: len(outcomes)])
    deaf = estimate(outcomes, [[MISSING] * len(group) for group in judge], switches=switches)
    assert (deaf.reasoning_part_PG == 0).all()
    if switches.gate == "none":
        assert (got.reasoning_part_PG == 0).all()
    if switches.outcome_weight == 0:
        assert torch.equal(got.reasoning_part_PG, got.advantages_PG)
    scored = torch.tensor([[score is not None for score in group] for group in judge])
    assert (got.reasoning_part_PG[~scored] == 0).all()


def test_the_parts_by_hand():
    # As in the group of two above, without difficulty: (1 - w) and w on the outcome, w on the judge's 0.1 of the mix.
    s_o, s_m = 1.0 / math.sqrt(2), 1.2 / math.sqrt(2)
    gate = s_m / (s_o + s_m)
    got = estimate([[1.0, 0.0]], [[0.8, 0.4]], switches=PLAIN)
    judge = gate * 0.1 / (s_m + E)
    assert got.reasoning_part_PG[0].tolist() == close(judge, -judge)
    outcome = (1 - gate) * 0.5 / (s_o + E) + gate * 0.5 / (s_m + E)
    assert (got.advantages_PG - got.reasoning_part_PG)[0].tolist() == close(outcome, -outcome)
    boosted = estimate([[1.0, 0.0]], [[0.8, 0.4]])
    assert boosted.reasoning_part_PG[0].tolist() == close(1.5 * judge, -1.5 * judge)
    # A group left out has neither part.
    assert estimate([[1.0, 1.0]], [[0.8, 0.4]]).reasoning_part_PG.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("gate", sorted(GATES))
def test_the_weight_of_outcomes_is_that_of_the_judge_the_other_way_round(gate):
    switches = replace(PLAIN, gate=gate, coefficient=0.5)
    outcomes, judge = [[1.0, 0.0, 0.25], [0.0, 0.0, 0.0]], [[0.9, 0.5, 0.1], [0.2, 0.5, 0.8]]
    one = estimate(outcomes, judge, switches=switches)
    doubled = estimate(outcomes, judge, switches=replace(switches, coefficient=1.0, outcome_weight=2.0))
    assert torch.allclose(one.gate_P, doubled.gate_P, rtol=0, atol=1e-12)
    assert torch.allclose(one.advantages_PG, doubled.advantages_PG, rtol=2 * E / 0.1, atol=0)


def test_without_the_outcome_s_weight_the_judge_alone_speaks():
    s_q = math.sqrt(0.5) * 0.4 * 0.5 + E
    got = estimate([[1.0, 0.0], [1.0, 0.0]], [[0.4, 0.8], [0.5, 0.5]], switches=replace(PLAIN, outcome_weight=0.0))
    assert values(got, 0) == close(-0.1 / s_q, 0.1 / s_q)
    assert (values(got, 1), got.gate_P.tolist()) == ([0.0, 0.0], [1.0, 0.0])
    # Which groups are solved, and how hard they are, is still told by the outcomes.
    skipped = estimate([[1.0, 1.0]], [[0.4, 0.8]], switches=replace(GROUP_STD, outcome_weight=0.0))
    assert not skipped.trains_PG.any()
    assert estimate([[1.0, 0.0]], switches=replace(GROUP_STD, outcome_weight=0.0)).difficulty_P.tolist() == [1.5]


@pytest.mark.parametrize("gate", ["std_ratio_mix", "std_ratio_reason", "hard"])
def test_under_a_fixed_scale_small_disagreements_are_small_pushes(gate):
    switches = replace(PLAIN, gate=gate, reasoning_scale="fixed", reasoning_unit=0.25)
    # All wrong: (q - mean) / 0.25, up to the constant that the mix has in its divisor, lambda * 0.25 = 0.125.
    off = 1.0 + E / 0.125 if gate == "std_ratio_mix" else 1.0
    for size in (0.02, 0.1, 0.4):
        judge = [[0.5 - size, 0.5, 0.5 + size]]
        got = estimate([[0.0, 0.0, 0.0]], judge, switches=switches)
        assert values(got) == close(-size / 0.25 / off, 0.0, size / 0.25 / off)
        assert got.gate_P.tolist() == [1.0]
        unit = values(estimate([[0.0, 0.0, 0.0]], judge, switches=replace(PLAIN, gate=gate)))
        assert unit == pytest.approx([-1.0, 0.0, 1.0], abs=0.02)


def test_a_fixed_scale_by_hand():
    # Outcomes 1 0 0 0, s_o = 1/2; judge 0.9 0.5 0.1 0.5, s_q = sqrt(0.32 / 3); lambda 0.5, unit 0.2.
    outcome, judge = [0.75, -0.25, -0.25, -0.25], [0.4, 0.0, -0.4, 0.0]
    switches = replace(PLAIN, reasoning_scale="fixed", reasoning_unit=0.2)
    gate = math.sqrt(1.23 / 3) / (0.5 + math.sqrt(1.23 / 3))
    s_m = math.sqrt(0.25 + 0.01) + E
    want = [(1 - gate) * o / (0.5 + E) + gate * (o + 0.5 * q) / s_m for o, q in zip(outcome, judge, strict=True)]
    got = estimate([[1.0, 0.0, 0.0, 0.0]], [[0.9, 0.5, 0.1, 0.5]], switches=switches)
    assert values(got) == close(*want)
    gate = 0.5 * math.sqrt(0.32 / 3) / (0.5 + 0.5 * math.sqrt(0.32 / 3))
    want = [(1 - gate) * o / (0.5 + E) + gate * q / 0.2 for o, q in zip(outcome, judge, strict=True)]
    got = estimate([[1.0, 0.0, 0.0, 0.0]], [[0.9, 0.5, 0.1, 0.5]], switches=replace(switches, gate="std_ratio_reason"))
    assert values(got) == close(*want)


# ---- edge cases


def test_all_right():
    outcomes = [[1.0, 1.0, 1.0]]
    skipped = estimate(outcomes, [[0.2, 0.5, 0.8]])
    assert values(skipped) == [0.0, 0.0, 0.0] and not skipped.trains_PG.any()
    assert (skipped.gate_P.tolist(), skipped.clip_epsilon) == ([0.0], 0.2)
    heard = estimate(outcomes, [[0.2, 0.5, 0.8]], switches=replace(GROUP_STD, all_right="reason"))
    # lambda (q - mu) / (lambda s_q + e), of weight 1: the group is not of medium difficulty.
    assert values(heard) == close(-0.15 / (0.15 + E), 0.0, 0.15 / (0.15 + E))
    assert (heard.gate_P.tolist(), heard.difficulty_P.tolist(), heard.clip_epsilon) == ([1.0], [1.0], 0.1)
    constant = estimate(outcomes, [[0.5, 0.5, 0.5]], switches=replace(GROUP_STD, all_right="reason"))
    assert (values(constant), constant.gate_P.tolist(), constant.clip_epsilon) == ([0.0, 0.0, 0.0], [0.0], 0.2)


def test_all_wrong():
    outcomes = [[0.0, 0.0, 0.0]]
    heard = estimate(outcomes, [[0.2, 0.5, 0.8]], switches=HEARS)
    assert values(heard) == close(-0.15 / (0.15 + E), 0.0, 0.15 / (0.15 + E))
    assert (heard.gate_P.tolist(), heard.difficulty_P.tolist(), heard.clip_epsilon) == ([1.0], [1.0], 0.1)
    skipped = estimate(outcomes, [[0.2, 0.5, 0.8]], reference=[1.0], switches=replace(GROUP_STD, all_wrong="skip"))
    assert values(skipped) == [0.0, 0.0, 0.0] and not skipped.trains_PG.any()
    constant = estimate(outcomes, [[0.5, 0.5, 0.5]], switches=HEARS)
    assert (values(constant), constant.gate_P.tolist(), constant.clip_epsilon) == ([0.0, 0.0, 0.0], [0.0], 0.2)


def test_with_all_switches_off_failing_groups_count_as_they_do_for_grpo():
    for outcome in (0.0, 1.0):
        got = estimate([[outcome] * 2], [[0.2, 0.8]], switches=ALL_OFF)
        assert (values(got), got.trains_PG.tolist()) == ([0.0, 0.0], [[True, True]])


def test_where_all_fail_the_judge_blames_and_never_praises():
    # With the solution's 0.9 the mean is 0.6 and s_q^2 = (0.16 + 0.01 + 0.04 + 0.09) / 3 = 0.1; what is above the mean
    # has advantage 0, not a positive one.
    got = estimate([[0.0, 0.0, 0.0]], [[0.2, 0.5, 0.8]], reference=[0.9])
    assert values(got) == close(-0.2 / (0.5 * math.sqrt(0.1) + E), -0.05 / (0.5 * math.sqrt(0.1) + E), 0.0)
    assert (got.gate_P.tolist(), got.trains_PG.tolist(), got.clip_epsilon) == ([1.0], [[True] * 3], 0.1)
    assert torch.equal(got.reasoning_part_PG, got.advantages_PG)
    # Other groups are praised as ever: here the middle one, whose outcomes are equal but not the least attainable.
    groups = estimate([[0.0] * 3, [0.5] * 3, [1.0, 0.0, 0.0]], [[0.2, 0.5, 0.8]] * 3, reference=[0.9] * 3)
    assert values(groups, 0) == values(got)
    assert values(groups, 1) == close(-1.5 * 0.15 / (0.15 + E), 0.0, 1.5 * 0.15 / (0.15 + E))
    assert values(groups, 2)[0] > 0
    # Success is never blamed for the judge's sake.
    solved = estimate([[1.0] * 3], [[0.2, 0.5, 0.8]], switches=replace(GROUP_STD, all_right="reason"))
    assert values(solved)[2] > 0


def test_equal_failures_are_blamed_for_what_the_solution_does_better():
    # With the solution's 0.8 the mean is 0.5 and s_q^2 = (3 * 0.01 + 0.09) / 3 = 0.2^2, whatever the gate.
    for gate in ("std_ratio_mix", "std_ratio_reason", "hard"):
        switches = replace(GROUP_STD, gate=gate, coefficient=1.0)
        got = estimate([[0.0] * 3], [[0.4] * 3], reference=[0.8], switches=switches)
        assert values(got) == close(*[-0.1 / (0.2 + E)] * 3)
        assert (got.gate_P.tolist(), got.clip_epsilon) == ([1.0], 0.1)
    fixed = estimate([[0.0] * 3], [[0.4] * 3], reference=[0.8], switches=AWPOSwitches(reasoning_scale="fixed"))
    assert values(fixed) == close(*[-0.5 * 0.1 / (0.5 * 0.25 + E)] * 3)
    # A member without a score is not blamed, and a spread of 0.2 is too little where 0.3 is asked for.
    some = estimate([[0.0] * 3], [[0.4, 0.4, MISSING]], reference=[0.7])
    assert values(some) == close(*[-0.05 / (0.5 * math.sqrt(0.03) + E)] * 2, 0.0)
    floored = estimate([[0.0] * 3], [[0.4] * 3], reference=[0.8], switches=replace(GROUP_STD, reasoning_floor=0.3))
    assert (values(floored), floored.gate_P.tolist(), floored.clip_epsilon) == ([0.0] * 3, [0.0], 0.2)
    # As good as the solution is good enough; and nothing is compared with a solution that is not asked for.
    same = estimate([[0.0] * 3], [[0.4] * 3], reference=[0.4])
    assert (values(same), same.clip_epsilon) == ([0.0] * 3, 0.2)
    unasked = estimate([[0.0] * 3], [[0.4] * 3], reference=[0.8], switches=replace(GROUP_STD, judge_check="none"))
    praised = estimate([[0.0] * 3], [[0.4] * 3], reference=[0.8], switches=replace(GROUP_STD, all_wrong="reason"))
    assert values(unasked) == values(praised) == [0.0] * 3


@pytest.mark.parametrize("rule", ["reason", "blame"])
@pytest.mark.parametrize(("reference", "is_heard"), [(0.9, True), (0.8, True), (0.79, False), (None, False)])
def test_a_judge_is_heard_where_all_fail_if_it_ranks_the_reference_first(rule, reference, is_heard):
    switches = replace(GROUP_STD, all_wrong=rule)
    outcomes, judge = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]], [[0.2, 0.5, 0.8]] * 3
    got = estimate(outcomes, judge, reference=[reference] * 3, switches=switches)
    assert (got.trains_PG[0].all().item(), got.gate_P[0].item() > 0, values(got)[0] < 0) == (is_heard,) * 3
    # Where somebody succeeds, or everybody, nothing is checked.
    others = estimate(outcomes[1:], judge[1:], switches=switches)
    assert torch.equal(got.advantages_PG[1:], others.advantages_PG)
    assert torch.equal(got.trains_PG[1:], others.trains_PG)


def test_a_judge_is_checked_in_each_group_by_itself():
    # 0.5 is above all of the first group, though not of the second, whose own solution is better.
    got = estimate([[0.0, 0.0]] * 3, [[0.2, 0.4], [0.6, 0.8], [0.2, 0.4]], reference=[0.5, 0.9, 0.3])
    assert got.trains_PG.tolist() == [[True, True], [True, True], [False, False]]


def test_a_solution_s_score_is_read_in_the_precision_of_the_rewards():
    every, judge = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[0.25, 0.5]])
    wide, narrow = (
        awpo(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), every, judge, every, epsilon=0.2, reference_P=score)
        for score in (torch.tensor([0.75], dtype=torch.float64), torch.tensor([0.75]))
    )
    assert wide.advantages_PG.dtype == wide.gate_P.dtype == torch.float32
    assert torch.equal(wide.advantages_PG, narrow.advantages_PG) and narrow.advantages_PG[0, 0] < 0


def test_without_references_or_scores_a_failing_group_is_left_out():
    skips = estimate([[0.0, 0.0], [1.0, 0.0]], [[0.2, 0.8]] * 2, switches=replace(GROUP_STD, all_wrong="skip"))
    for judge, reference in ((0.8, None), (0.8, [None, None]), (0.8, [0.5, 0.5])):
        got = estimate([[0.0, 0.0], [1.0, 0.0]], [[0.2, judge]] * 2, reference=reference)
        assert torch.equal(got.advantages_PG, skips.advantages_PG)
        assert torch.equal(got.trains_PG, skips.trains_PG)
        assert got.clip_epsilon == skips.clip_epsilon
    # A broken episode's score is not held against the judge: it does not vote.
    broken = estimate([[0.0, 0.0, None]], [[0.2, 0.4, 1.0]], reference=[0.5])
    assert broken.trains_PG.tolist() == [[True, True, False]]


@pytest.mark.parametrize(("rule", "outcome"), [("all_right", 1.0), ("all_wrong", 0.0)])
def test_a_saturated_group_may_train_on_its_outcome_only(rule, outcome):
    switches = replace(HEARS, **{rule: "outcome_only"})
    got = estimate([[outcome] * 3], [[0.2, 0.5, 0.8]], switches=switches)
    # Its tokens are counted, as GRPO counts them, and push nowhere; the clip does not notice it.
    assert (values(got), got.trains_PG.all().item()) == ([0.0, 0.0, 0.0], True)
    assert (got.gate_P.tolist(), got.clip_epsilon) == ([0.0], 0.2)
    beside = estimate([[outcome] * 3, [0.5] * 3], [[0.2, 0.5, 0.8]] * 2, switches=switches)
    assert (beside.gate_P.tolist(), beside.clip_epsilon) == ([0.0, 1.0], 0.1)
    other = estimate([[1.0 - outcome] * 3], [[0.2, 0.5, 0.8]], switches=switches)
    assert (other.gate_P.tolist(), other.clip_epsilon) == ([1.0], 0.1)


def test_a_skipped_group_leaves_reliance_to_the_others():
    hears = {"switches": replace(HEARS, all_right="skip")}
    wrong, right = ([0.0, 0.0], [0.2, 0.8]), ([1.0, 1.0], [0.2, 0.8])
    alone = estimate([wrong[0]], [wrong[1]], **hears)
    both = estimate([wrong[0], right[0]], [wrong[1], right[1]], **hears)
    assert both.clip_epsilon == alone.clip_epsilon == 0.1
    # A group in which nothing varies has no say either; one that follows its outcomes halves the reliance.
    silent = estimate([wrong[0], [0.0, 0.0]], [wrong[1], [0.5, 0.5]], **hears)
    assert silent.clip_epsilon == 0.1
    left_out = estimate([[1.0, 0.0], right[0]], [[0.5, 0.5], right[1]], **hears)
    assert left_out.clip_epsilon == 0.2
    sober = estimate([wrong[0], [1.0, 0.0]], [wrong[1], [0.5, 0.5]], **hears)
    assert sober.clip_epsilon == pytest.approx(0.2 / 1.5, abs=1e-12)


def test_all_equal_in_the_middle():
    got = estimate([[0.5, 0.5, 0.5]], [[0.2, 0.5, 0.8]])
    assert values(got) == close(-1.5 * 0.15 / (0.15 + E), 0.0, 1.5 * 0.15 / (0.15 + E))
    assert (got.gate_P.tolist(), got.difficulty_P.tolist()) == ([1.0], [1.5])


@pytest.mark.parametrize("scale", sorted(SCALES))
def test_a_constant_judge_is_grpo_times_difficulty(scale):
    for outcomes in ([1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]):
        want = estimate([outcomes], estimator=grpo).advantages_PG
        got = estimate([outcomes], [[0.7] * len(outcomes)], switches=AWPOSwitches(reasoning_scale=scale))
        assert torch.allclose(got.advantages_PG, got.difficulty_P * want, rtol=0, atol=1e-12)
        assert got.gate_P.tolist() == close(0.5)
        assert got.clip_epsilon == 0.2


def test_a_judge_below_the_floor_is_a_constant_one():
    # Scores 0.50 and 0.52 have a standard deviation of 0.0141.
    outcomes = [[1.0, 0.0]]
    assert values(estimate(outcomes, [[0.50, 0.52]])) == values(estimate(outcomes, [[0.5, 0.5]]))
    assert values(estimate(outcomes, [[0.50, 0.54]])) != values(estimate(outcomes, [[0.5, 0.5]]))
    # At the floor itself it is heard: 0, 1/2 and 1 have a standard deviation of exactly 1/2.
    at = estimate([[0.5] * 3], [[0.0, 0.5, 1.0]], switches=replace(PLAIN, reasoning_floor=0.5))
    assert values(at) == close(-0.25 / (0.25 + E), 0.0, 0.25 / (0.25 + E))


def test_a_judge_that_opposes_the_outcome_is_not_heard():
    got = estimate([[1.0, 0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0, 1.0]], switches=replace(PLAIN, coefficient=1.0))
    want = estimate([[1.0, 0.0, 1.0, 0.0]], estimator=grpo)
    assert (got.gate_P.tolist(), values(got), got.clip_epsilon) == ([0.0], close(*values(want)), 0.2)
    half = estimate([[1.0, 0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0, 1.0]], switches=PLAIN)
    assert half.gate_P.tolist() == close(1 / 3)  # s_m = s_o / 2


@pytest.mark.parametrize("gate", sorted(GATES))
def test_a_group_of_one_has_no_spread(gate):
    got = estimate([[1.0], [0.0]], [[0.9], [0.1]], switches=replace(HEARS, gate=gate))
    assert got.advantages_PG.tolist() == [[0.0], [0.0]]
    assert (got.gate_P.tolist(), got.clip_epsilon) == ([0.0, 0.0], 0.2)
    assert estimate([[1.0], [None]], estimator=grpo).advantages_PG.tolist() == [[0.0], [0.0]]


def test_a_missing_score_is_no_score():
    # Judged are the first two, with deviations 0.3 and -0.3. The third has reasoning term 0, and no mean is imputed.
    outcome, mixed = [2 / 3, -1 / 3, -1 / 3], [2 / 3 + 0.15, -1 / 3 - 0.15, -1 / 3]
    s_o, s_m = math.sqrt(1 / 3), math.sqrt(sum(value**2 for value in mixed) / 2)
    gate = s_m / (s_o + s_m)
    got = estimate([[1.0, 0.0, 0.0]], [[0.8, 0.2, MISSING]], switches=PLAIN)
    want = [(1 - gate) * o / (s_o + E) + gate * m / (s_m + E) for o, m in zip(outcome, mixed, strict=True)]
    assert values(got) == close(*want)
    assert got.trains_PG.all()


@pytest.mark.parametrize("gate", ["std_ratio_reason", "hard"])
def test_a_missing_score_leaves_the_outcome_to_speak(gate):
    switches = replace(PLAIN, gate=gate)
    got = estimate([[1.0, 0.0, 0.0]], [[0.8, 0.2, MISSING]], switches=switches)
    assert values(got)[2] == pytest.approx(values(estimate([[1.0, 0.0, 0.0]], estimator=grpo))[2], abs=1e-12)
    saturated = estimate([[0.0, 0.0, 0.0]], [[0.8, 0.2, MISSING]], switches=switches)
    s_q = math.sqrt(0.18) + E
    assert values(saturated) == close(0.3 / s_q, -0.3 / s_q, 0.0)


@pytest.mark.parametrize("scale", sorted(SCALES))
@pytest.mark.parametrize("gate", sorted(GATES))
def test_without_any_score_all_is_grpo(gate, scale):
    outcomes = [[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    want = estimate(outcomes, estimator=grpo)
    for judge in (None, [[0.9, MISSING, MISSING, MISSING]] * 2):  # a single score has no spread
        got = estimate(outcomes, judge, switches=replace(PLAIN, gate=gate, reasoning_scale=scale))
        assert torch.allclose(got.advantages_PG, want.advantages_PG, rtol=0, atol=1e-12)
        assert got.clip_epsilon == 0.2


def test_a_broken_episode_neither_trains_nor_votes():
    # Its judge score exists and is extreme; the others must not notice it.
    got = estimate([[1.0, 0.0, None]], [[0.8, 0.4, 0.0]])
    want = estimate([[1.0, 0.0]], [[0.8, 0.4]])
    assert values(got)[:2] == close(*values(want)) and values(got)[2] == 0.0
    assert got.trains_PG.tolist() == [[True, True, False]]
    assert got.clip_epsilon == pytest.approx(want.clip_epsilon, abs=1e-12)
    dead = estimate([[None, None]], [[0.8, 0.4]])
    assert (values(dead), dead.trains_PG.any().item(), dead.clip_epsilon) == ([0.0, 0.0], False, 0.2)


def test_difficulty_is_measured_on_the_range_of_the_task():
    outcomes = [[0.5, 0.7]]  # mean 0.6: medium on [0, 1], easy on [0, 0.75], hard on [-3, 0.9] no more than easy
    weights = {ends: estimate(outcomes, low=ends[0], high=ends[1]).difficulty_P.item() for ends in RANGES}
    assert weights == RANGES
    assert estimate([[0.5, 0.5, None, None, None]]).difficulty_P.tolist() == [1.5]  # the broken have no say
    assert estimate([[0.4, None]]).difficulty_P.tolist() == [1.5]
    for mean, weight in ((0.25, 1.5), (0.75, 1.5), (0.2, 1.0), (0.8, 1.0), (0.0, 1.0)):
        assert estimate([[mean, mean]]).difficulty_P.tolist() == [weight]


RANGES = {(0.0, 1.0): 1.5, (0.0, 0.75): 1.0, (-3.0, 0.9): 1.0, (0.5, 3.0): 1.0, (-1.0, 2.0): 1.5}


def test_a_smooth_difficulty_by_hand():
    switches = replace(GROUP_STD, difficulty="smooth", difficulty_boost=1.5)
    for mean, weight in ((0.0, 1.0), (0.25, 1.375), (0.5, 1.5), (0.75, 1.375), (1.0, 1.0)):
        assert estimate([[mean, mean]], switches=switches).difficulty_P.tolist() == close(weight)
    less = replace(switches, difficulty_boost=0.5)
    assert estimate([[0.5, 0.5], [0.0, 0.0]], switches=less).difficulty_P.tolist() == close(0.5, 1.0)


def test_the_band_of_medium_difficulty_can_be_moved():
    switches = replace(GROUP_STD, difficulty_low=0.05, difficulty_high=0.4, difficulty_boost=1.1)
    means = {mean: estimate([[mean, mean]], switches=switches).difficulty_P.item() for mean in (0.0, 0.1, 0.4, 0.5)}
    assert means == {0.0: 1.0, 0.1: 1.1, 0.4: 1.1, 0.5: 1.0}  # 1.1 itself, not its neighbour in single precision


def test_every_task_has_its_own_range():
    ranges = torch.tensor([[0.0, 1.0], [0.0, 4.0]], dtype=torch.float64)
    outcome = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    every = torch.ones(2, 2, dtype=torch.bool)
    got = awpo(outcome, ranges, every, torch.tensor([[0.2, 0.8]] * 2, dtype=torch.float64), every, epsilon=0.2)
    assert got.trains_PG.tolist() == [[False, False], [True, True]]  # 1 is all right on [0, 1], and a quarter of 4
    assert got.difficulty_P.tolist() == [1.0, 1.5]


def test_a_task_that_allows_one_outcome_is_solved_by_it():
    # Nobody failed, so nobody is blamed.
    got = estimate([[2.0, 2.0]], [[0.2, 0.8]], low=2.0, high=2.0, reference=[0.9])
    assert (values(got), got.trains_PG.any().item(), got.clip_epsilon) == ([0.0, 0.0], False, 0.2)
    heard = estimate([[2.0, 2.0]], [[0.2, 0.8]], low=2.0, high=2.0, switches=replace(GROUP_STD, all_right="reason"))
    assert values(heard)[0] < 0 < values(heard)[1] and heard.difficulty_P.tolist() == [1.0]
    for other in (1.5, 2.5):
        with pytest.raises(ValueError, match="outcome, on the range of its task"):
            estimate([[2.0, other]], low=2.0, high=2.0)


@pytest.mark.parametrize("ends", [(1.0, 0.0), (0.0, math.inf), (math.nan, 1.0)])
def test_a_range_that_is_none_is_refused(ends):
    for estimator in ESTIMATORS.values():
        with pytest.raises(ValueError, match="low <= high"):
            estimate([[1.0, 1.0]], [[0.2, 0.8]], low=ends[0], high=ends[1], estimator=estimator)


@pytest.mark.parametrize("score", [math.inf, -0.1, 5.0])
def test_a_solution_s_score_that_cannot_be_is_refused(score):
    with pytest.raises(ValueError, match=f"own solution is {score}"):
        estimate([[0.0, 0.0]], [[0.2, 0.8]], reference=[score])


@pytest.mark.parametrize("value", [1000.1, 64.2])
def test_equal_outcomes_are_equal_in_half_the_digits(value):
    outcome = torch.full((1, 7), value)
    every = torch.ones(1, 7, dtype=torch.bool)
    for estimator in ESTIMATORS.values():
        got = estimator(outcome, torch.tensor([[0.0, 2000.0]]), every, torch.zeros(1, 7), ~every, epsilon=0.2)
        assert (got.advantages_PG == 0).all()


def test_outcomes_closer_than_the_tolerance_are_equal_however_small():
    assert values(estimate([[3e-7, 0.0]], estimator=grpo)) == [0.0, 0.0]
    assert values(estimate([[3e-6, 0.0]], estimator=grpo))[0] > 0
    # The tolerance grows with a group's own rewards, not with another's.
    beside = estimate([[3e-6, 0.0], [1000.0, 1000.0 - 3e-6]], high=1000.0, estimator=grpo)
    assert values(beside, 0)[0] > 0 and values(beside, 1) == [0.0, 0.0]


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_no_gradient_flows_through_rewards(name):
    outcome, judge = (torch.tensor([values], requires_grad=True) for values in ([1.0, 0.0, 0.0], [0.9, 0.2, 0.4]))
    every = torch.ones(1, 3, dtype=torch.bool)
    got = ESTIMATORS[name](outcome, torch.tensor([[0.0, 1.0]]), every, judge, every, epsilon=0.2)
    assert not got.advantages_PG.requires_grad and not got.reasoning_part_PG.requires_grad


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"all_wrong": "blam"}, "all_wrong is 'blam', expected one of"),
        ({"judge_check": "refernce"}, "judge_check is 'refernce'"),
        ({"gate": ""}, "gate is ''"),
        ({"reasoning_unit": 0.0}, "reasoning_unit is 0.0, expected a finite number above 0"),
        ({"difficulty_boost": math.inf}, "difficulty_boost is inf, expected a finite number above 0"),
        ({"outcome_weight": math.inf}, "outcome_weight is inf, expected a finite number, not negative"),
        ({"coefficient": -1.0, "clip": "no"}, "clip is 'no'.*; coefficient is -1.0, expected a finite number, not neg"),
        ({"clip_strength": math.nan}, "clip_strength is nan"),
    ],
)
def test_impossible_switches_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        AWPOSwitches(**changes)


def test_every_name_a_switch_may_have_is_there():
    tables = {"gate": GATES, "reasoning_scale": SCALES, "difficulty": DIFFICULTIES, "clip": CLIPS}
    assert {name: set(CHOICES[name]) for name in tables} == {name: set(table) for name, table in tables.items()}
    numbers = {name for name in AWPOSwitches.__slots__ if isinstance(getattr(AWPOSwitches(), name), float)}
    assert numbers - {"difficulty_low", "difficulty_high"} == {*POSITIVE, *NOT_NEGATIVE}
    assert set(AWPOSwitches.__slots__) - numbers == set(CHOICES)

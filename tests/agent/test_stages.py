"""Stages of reward integration: when they begin, what they change, and which of them are refused."""

import pytest

from awpo_agent.advantages import AWPOSwitches, Stage, count_begun, staged

STAGES = (
    Stage(from_step=2, coefficient=0.0, gate="none"),
    Stage(metric="success_rate", at_least=0.5, gate="hard"),
    Stage(metric="judge/mean", at_most=0.2, coefficient=0.25, outcome_weight=0.0),
    Stage(from_step=3, coefficient=1.0),
)


def test_a_step_begins_a_stage_and_the_order_is_kept():
    assert [count_begun(STAGES, 0, step, {}) for step in range(5)] == [0, 0, 1, 1, 1]
    good = {"success_rate": 0.5, "judge/mean": 0.2}
    assert count_begun(STAGES, 0, 1, good) == 0  # the first is not due yet, and nobody overtakes it
    assert count_begun(STAGES, 0, 2, good) == 3
    assert count_begun(STAGES, 0, 3, good) == 4


def test_a_metric_begins_a_stage_at_its_threshold_and_for_good():
    assert count_begun(STAGES, 1, 9, {"success_rate": 0.49}) == 1
    assert count_begun(STAGES, 1, 9, {"success_rate": 0.5}) == 2
    assert count_begun(STAGES, 2, 9, {"judge/mean": 0.21}) == 2
    assert count_begun(STAGES, 2, 9, {"judge/mean": 0.1}) == 4
    assert count_begun(STAGES, 2, 9, {"success_rate": 0.0}) == 2
    assert count_begun((), 0, 9, {}) == 0


def test_what_a_stage_names_changes_and_the_rest_stays():
    base = AWPOSwitches(coefficient=0.5, gate="std_ratio_mix", clip="fixed")
    assert staged(base, STAGES, 0) is base
    assert staged(base, STAGES, 1) == AWPOSwitches(coefficient=0.0, gate="none", clip="fixed")
    assert staged(base, STAGES, 2) == AWPOSwitches(coefficient=0.0, gate="hard", clip="fixed")
    assert staged(base, STAGES, 4) == AWPOSwitches(coefficient=1.0, gate="hard", outcome_weight=0.0, clip="fixed")


@pytest.mark.parametrize("stage", [*STAGES, Stage(from_step=0, gate="none")])
def test_possible_stages(stage):
    assert stage.problems() == []


@pytest.mark.parametrize(
    ("stage", "problem"),
    [
        (Stage(gate="none"), "either from_step or metric"),
        (Stage(from_step=1, metric="reward", at_least=0.0, gate="none"), "either from_step or metric"),
        (Stage(metric="reward", gate="none"), "either at_least or at_most"),
        (Stage(metric="reward", at_least=1.0, at_most=0.0, gate="none"), "either at_least or at_most"),
        (Stage(from_step=1, at_least=1.0, gate="none"), "either at_least or at_most"),
        (Stage(from_step=1), "changes nothing"),
        (Stage(from_step=1, coefficient=-1.0), "coefficient of a stage is -1.0"),
        (Stage(from_step=1, outcome_weight=float("inf")), "outcome_weight of a stage is inf"),
        (Stage(from_step=1, coefficient=float("nan")), "coefficient of a stage is nan"),
        (Stage(from_step=1, gate="soft"), "gate of a stage is 'soft'"),
        (Stage(from_step=-1, gate="none"), "from_step of a stage is -1"),
        (Stage(metric="reward", at_least=float("nan"), gate="none"), "at_least of a stage is nan"),
        (Stage(metric="reward", at_most=float("nan"), gate="none"), "at_most of a stage is nan"),
    ],
)
def test_impossible_stages(stage, problem):
    (found,) = stage.problems()
    assert problem in found

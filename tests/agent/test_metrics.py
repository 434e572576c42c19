"""Numbers and records of a step, from rollouts written by hand."""

import json
import math
from dataclasses import replace

import pytest
import torch

from awpo_agent.advantages import Advantages, awpo, grpo
from awpo_agent.metrics import advantage_metrics, episode_record, reward_tensors, rollout_metrics
from awpo_agent.types import Rollout
from awpo_env.types import EpisodeStatus, Outcome, Score, Task, Transcript


def rollout(value=None, score=None, *, sampled=2, results=(), status=EpisodeStatus.COMPLETED, low=0.0, high=1.0):
    """An episode of three prompt tokens and `sampled` sampled ones; None is a broken environment or no judge."""
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    messages += [{"role": "tool", "tool_call_id": "call_0", "name": "add", "content": content} for content in results]
    outcome = None if value is None else Outcome(value, low, high, value == high, {"success": float(value == high)})
    return Rollout(
        ids=tuple(range(3 + sampled)),
        is_sampled=(False,) * 3 + (True,) * sampled,
        logprobs=(0.0,) * 3 + (-1.0,) * sampled,
        num_prompt_tokens=3,
        transcript=Transcript(Task("t/0", "one", {}, ()), tuple(messages), (), status),
        outcome=outcome,
        reasoning=score if score is None or isinstance(score, Score) else Score(score),
        info={"task_id": "t/0", "kind": "one", "status": str(status)},
    )


FOUR = [
    rollout(1.0, 0.5, sampled=4, results=['{"result": 1}', '{"error": {"code": "tool_error", "message": "no"}}']),
    rollout(0.0, Score.missing("timed out"), results=['{"errors": 0}']),
    rollout(None, 0.9, status=EpisodeStatus.ENVIRONMENT_ERROR),
    rollout(0.0, 0.7, status=EpisodeStatus.MAX_TOKENS),
]


def test_rollout_metrics_by_hand():
    got = rollout_metrics(FOUR, 2)
    assert got == {
        "num_tokens": 7 + 5 + 5 + 5,
        "completions/mean_length": 2.5,
        "completions/max_length": 4.0,
        "tools/call_frequency": 3 / 4,
        "tools/failure_frequency": pytest.approx(1 / 3),
        "env/stop/completed": 0.5,
        "env/stop/environment_error": 0.25,
        "env/stop/max_tokens": 0.25,
        "reward": pytest.approx(1 / 3),
        "reward_std": pytest.approx(((4 / 9 + 1 / 9 + 1 / 9) / 3) ** 0.5),
        "success_rate": pytest.approx(1 / 3),
        "frac_reward_zero_std": 0.5,
        # The broken one's score counts nowhere, and is not missed either.
        "judge/mean": pytest.approx(0.6),
        "judge/std": pytest.approx(0.1),
        "judge/missing_rate": pytest.approx(1 / 3),
    }


def test_what_does_not_exist_is_left_out():
    got = rollout_metrics([rollout(None), rollout(None)], 2)
    assert not {"reward", "success_rate", "judge/mean", "judge/missing_rate"} & got.keys()
    assert rollout_metrics([rollout(0.0, Score.missing("x"))] * 2, 2)["judge/missing_rate"] == 1.0


def test_advantage_metrics_by_hand():
    # The first group: 1 = 0.75 + 0.25 of the judge. The second: the judge alone. The third: silent, one member broken.
    # The fourth: 0.5 = 1 - 0.5, the judge against the outcome.
    advantages = Advantages(
        torch.tensor([[1.0, -1.0], [2.0, -2.0], [0.0, 0.0], [0.5, -0.5]]),
        torch.tensor([[0.25, -0.25], [2.0, -2.0], [0.0, 0.0], [-0.5, 0.5]]),
        torch.tensor([[True, True], [True, True], [True, False], [True, True]]),
        0.15,
        torch.tensor([0.5, 1.0, 0.0, 0.5]),
        torch.tensor([1.5, 1.0, 1.0, 1.5]),
    )
    assert advantage_metrics(advantages) == {
        "awpo/gate_mean": 0.5,
        "awpo/difficulty_mean": 1.25,
        "awpo/clip_eps": 0.15,
        "awpo/frac_with_signal": 0.75,
        "awpo/frac_judge_alone": 0.25,
        "awpo/advantage_std": pytest.approx((10.5 / 7) ** 0.5),
        "awpo/variance": pytest.approx(10.5 / 7),
        "awpo/variance_outcome": pytest.approx((2 * 0.75**2 + 2) / 7),
        "awpo/variance_reasoning": pytest.approx((2 * 0.25**2 + 8 + 2 * 0.5**2) / 7),
    }


def test_a_judge_that_is_silent_in_all_groups_keeps_none_alive():
    advantages = grpo(**reward_tensors(FOUR, 2), epsilon=0.2)
    got = advantage_metrics(advantages)
    assert (got["awpo/frac_judge_alone"], got["awpo/variance_reasoning"]) == (0.0, 0.0)
    assert got["awpo/variance"] == got["awpo/variance_outcome"] > 0
    nobody = advantage_metrics(grpo(**reward_tensors([rollout(None)] * 4, 2), epsilon=0.2))
    assert (nobody["awpo/variance"], nobody["awpo/frac_judge_alone"]) == (0.0, 0.0)


def test_the_judge_is_correlated_with_the_outcome_inside_groups():
    # Deviations: outcome +-1/2 and +-1/2, judge +-0.1 and -+0.3: (0.05 - 0.15) * 2 / sqrt(1 * 0.2).
    group, other = [rollout(1.0, 0.9), rollout(0.0, 0.7)], [rollout(1.0, 0.1), rollout(0.0, 0.7)]
    got = rollout_metrics([*group, *other], 2)["judge/outcome_correlation"]
    assert got == pytest.approx(-0.2 / 0.2**0.5)
    # A judge who only likes one task better says nothing about its episodes, nor does who has one of the two rewards.
    assert "judge/outcome_correlation" not in rollout_metrics([rollout(1.0, 0.9)] * 2 + [rollout(0.0, 0.1)] * 2, 2)
    alone = [rollout(1.0, Score.missing("x")), rollout(None, 0.3)]
    assert rollout_metrics([*group, *alone], 2)["judge/outcome_correlation"] == pytest.approx(1.0)
    assert "judge/outcome_correlation" not in rollout_metrics(alone, 2)


def test_an_episode_record_has_everything():
    tensors = reward_tensors(FOUR, 2)
    advantages = awpo(**tensors, epsilon=0.2)
    record = episode_record(FOUR[0], 7, 0, advantages, 0)
    assert json.loads(json.dumps(record)) == record
    assert {name: record[name] for name in ("step", "group", "task_id", "kind", "status")} == {
        "step": 7,
        "group": 0,
        "task_id": "t/0",
        "kind": "one",
        "status": "completed",
    }
    assert record["messages"] == list(FOUR[0].transcript.messages)
    assert (record["num_tokens"], record["num_sampled_tokens"]) == (7, 4)
    assert record["outcome"] == {"value": 1.0, "success": True} | {"success": 1.0}
    assert record["reasoning"] == {"value": 0.5, "reason": "", "parts": {}}
    assert record["gate"] == float(advantages.gate_P[0]) and record["difficulty"] == 1.5
    assert record["advantage"] == float(advantages.advantages_PG[0, 0]) != 0.0
    assert record["trains"] is True
    missing = episode_record(FOUR[1], 7, 0, advantages, 1)
    assert missing["reasoning"] == {"value": None, "reason": "timed out", "parts": {}}
    assert missing["advantage"] == float(advantages.advantages_PG[0, 1])
    broken = episode_record(FOUR[2], 7, 1, advantages, 0)
    assert (broken["outcome"], broken["advantage"], broken["trains"]) == (None, 0.0, False)
    assert episode_record(rollout(0.0), 7, 0, advantages, 0)["reasoning"] is None


def test_reward_tensors_by_hand():
    got = reward_tensors([*FOUR, rollout(2.0, low=-3.0, high=4.0), rollout(None), rollout(None), rollout(None)], 2)
    assert got["outcome_PG"].tolist() == [[1, 0], [0, 0], [2, 0], [0, 0]]
    assert got["outcome_valid_PG"].tolist() == [[True, True], [False, True], [True, False], [False, False]]
    # The range is that of the task, taken from whoever has an outcome; a group without any gets a harmless one.
    assert got["outcome_range_P2"].tolist() == [[0, 1], [0, 1], [-3, 4], [0, 1]]
    assert got["reasoning_PG"].tolist() == [[0.5, 0], [0.9, 0.7], [0, 0], [0, 0]]
    assert got["reasoning_valid_PG"].tolist() == [[True, False], [True, True], [False, False], [False, False]]
    assert got["outcome_PG"].dtype == got["outcome_range_P2"].dtype == got["reasoning_PG"].dtype == torch.float64


def test_the_solution_s_score_is_that_of_the_group_and_missing_is_nan():
    def of(reference, value=0.0, score=0.4):
        return replace(rollout(value, score), reference=reference)

    known, missing = Score(0.6), Score.missing("timed out")
    rollouts = [of(known), of(known, score=0.7), of(known), of(known, 1.0, 0.9), of(missing), of(missing, score=1.0)]
    tensors = reward_tensors([*rollouts, of(None), of(None, score=1.0)], 2)
    assert tensors["reference_P"].tolist() == pytest.approx([0.6, 0.6, math.nan, math.nan], nan_ok=True)
    # A failure of the first group has a higher score than its solution; in the second only the success has.
    assert rollout_metrics(rollouts, 2)["judge/reference_beaten"] == 0.5
    assert "judge/reference_beaten" not in rollout_metrics(rollouts[4:], 2)
    assert rollout_metrics(rollouts, 2)["judge/reference_missing"] == pytest.approx(1 / 3)
    record = episode_record(rollouts[0], 0, 0, grpo(**tensors, epsilon=0.2), 0)
    assert record["reference"] == 0.6 and record["reasoning"]["value"] == 0.4


def test_a_score_of_zero_is_a_score():
    got = reward_tensors([rollout(0.0, 0.0), rollout(0.0, Score.missing("x"))], 2)
    assert got["reasoning_valid_PG"].tolist() == [[True, False]]


@pytest.mark.parametrize("estimator", [grpo, awpo])
def test_broken_episodes_of_a_group_are_never_read(estimator):
    # The broken member has a range of its own nowhere: were its 0 read, it would be the worst of the group.
    good = [rollout(3.0, 0.8, low=2.0, high=4.0), rollout(3.5, 0.2, low=2.0, high=4.0)]
    with_broken = estimator(**reward_tensors([rollout(None, 1.0), *good], 3), epsilon=0.2)
    without = estimator(**reward_tensors(good, 2), epsilon=0.2)
    assert torch.allclose(with_broken.advantages_PG[0, 1:], without.advantages_PG[0], rtol=0, atol=1e-12)
    assert with_broken.advantages_PG[0, 0] == 0.0 and not with_broken.trains_PG[0, 0]
    assert with_broken.clip_epsilon == pytest.approx(without.clip_epsilon, abs=1e-12)

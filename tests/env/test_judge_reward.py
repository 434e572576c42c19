"""The wrapper that asks a judge at the end of an episode, and the judge that tests use."""

from __future__ import annotations

import gymnasium
import pytest

import awpo_env  # noqa: F401 - registers the environments
from awpo_env.errors import UsageError
from awpo_env.judges.rubric import RubricJudge
from awpo_env.judges.scripted import ScriptedJudge
from awpo_env.types import EpisodeStatus, Score
from awpo_env.wrappers.judge_reward import JudgeReward

TASK = {"task_id": "train/full/3"}


def make(judge, **options):
    env = JudgeReward(gymnasium.make("awpo/Calculator-v0", **options), judge)
    env.reset(options=TASK)
    return env


def play_reference(env):
    """Play the reference solution; return what every step returned."""
    core = env.unwrapped
    script = [message for turn in core.task.turns for message in turn.reference]
    return [env.step(core.parser.format(message)) for message in script]


def test_score_comes_with_the_end_and_not_before():
    judge = ScriptedJudge([0.25])
    *before, last = play_reference(make(judge))
    assert before
    assert all("reasoning" not in info for *_, info in before)
    assert last[4]["reasoning"] == Score(0.25)
    assert len(judge.seen) == 1


def test_reward_stays_the_outcome():
    *_, (_, reward, terminated, truncated, info) = play_reference(make(ScriptedJudge([0.0])))
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["outcome"].value == 1.0


def test_judge_reads_the_whole_episode():
    judge = ScriptedJudge(lambda transcript: 1.0)
    env = make(judge)
    steps = play_reference(env)
    (seen,) = judge.seen
    assert seen.task == env.unwrapped.task
    assert seen.messages == steps[-1][0]["messages"]
    assert seen.status is EpisodeStatus.COMPLETED


def test_missing_score_stays_missing():
    missing = Score.missing("the endpoint timed out")
    *_, (_, reward, _, _, info) = play_reference(make(ScriptedJudge([missing])))
    assert info["reasoning"] is missing
    assert reward == 1.0


def test_judge_that_raises_is_not_hushed_up():
    def broken(transcript):
        raise RuntimeError("bug of the judge")

    with pytest.raises(RuntimeError, match="bug of the judge"):
        play_reference(make(ScriptedJudge(broken)))


def test_episode_cut_off_by_a_limit_is_judged():
    env = make(ScriptedJudge([0.5]), limits={"max_turns": 1})
    first = env.unwrapped.task.turns[0].reference[0]
    _, _, terminated, truncated, info = env.step(env.unwrapped.parser.format(first))
    assert (terminated, truncated) == (False, True)
    assert info["reasoning"].value == 0.5


def test_episode_cut_off_from_outside_is_judged():
    judge = ScriptedJudge([0.5])
    _, _, _, truncated, info = make(judge).truncate(EpisodeStatus.MAX_TOKENS)
    assert truncated
    assert info["reasoning"].value == 0.5
    assert judge.seen[0].status is EpisodeStatus.MAX_TOKENS


def test_every_episode_is_judged_anew():
    env = make(ScriptedJudge([0.1, 0.2]))
    scores = []
    for _ in range(2):
        env.reset(options=TASK)
        scores.append(play_reference(env)[-1][4]["reasoning"].value)
    assert scores == [0.1, 0.2]


def test_spec_rebuilds_the_wrapped_environment_around_the_same_judge():
    env = make(RubricJudge())
    again = gymnasium.make(env.spec)
    assert isinstance(again, JudgeReward)
    again.reset(options=TASK)
    assert play_reference(again)[-1][4]["reasoning"] == play_reference(env)[-1][4]["reasoning"]


def test_vector_environments_carry_the_scores():
    def build():
        return JudgeReward(gymnasium.make("awpo/Calculator-v0"), ScriptedJudge(lambda transcript: 0.75))

    envs = gymnasium.vector.SyncVectorEnv([build, build])
    envs.reset(seed=0)
    *_, infos = envs.step(["", ""])
    for _ in range(3):
        if "reasoning" in infos:
            break
        *_, infos = envs.step(["", ""])
    assert infos["reasoning"][infos["_reasoning"]][0].value == 0.75


def test_scripted_judge_says_when_its_scores_are_used_up():
    with pytest.raises(UsageError, match="holds 1 scores"):
        [play_reference(make(judge)) for judge in [ScriptedJudge([0.5])] * 2]

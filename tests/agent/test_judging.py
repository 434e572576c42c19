"""Judging in training: whole groups to a judge that compares, failures told, counted and never a number."""

import asyncio
import logging
from dataclasses import replace

import pytest

from awpo_agent.judging import JudgeBill, JudgeDesk, JudgeFailure, JudgeWatch, refuse_missing
from awpo_agent.metrics import reward_tensors
from awpo_agent.types import Rollout
from awpo_env.judges.ledger import Totals
from awpo_env.types import Outcome, Score


class Judge:
    """Scores letters by their place in the alphabet, and remembers who came together."""

    def __init__(self, compares=False, error=None):
        self.compares, self._error, self.asked = compares, error, []

    def score(self, transcripts):
        self.asked.append("".join(transcripts))
        if self._error is not None:
            raise self._error
        return [Score((ord(letter) - ord("a")) / 10) for letter in transcripts]


class WaitingJudge(Judge):
    async def score_async(self, transcripts):
        return self.score(transcripts)


def ask(judge, episodes, sizes):
    async def everyone():
        desk = JudgeDesk(judge, sizes)
        return await asyncio.gather(*(desk.score(group, letter) for group, letter in episodes), return_exceptions=True)

    return asyncio.run(everyone())


EPISODES = [(7, "a"), (8, "b"), (7, "c"), (8, "d"), (7, "e")]
VALUES = [0.0, 0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize("kind", [Judge, WaitingJudge])
def test_a_judge_that_compares_gets_whole_groups_and_each_episode_its_own_score(kind):
    judge = kind(compares=True)
    assert [score.value for score in ask(judge, EPISODES, {7: 3, 8: 2})] == VALUES
    assert sorted(judge.asked) == ["ace", "bd"]


@pytest.mark.parametrize("kind", [Judge, WaitingJudge])
def test_another_judge_gets_every_episode_as_it_ends(kind):
    judge = kind()
    assert [score.value for score in ask(judge, EPISODES, {7: 3, 8: 2})] == VALUES
    assert sorted(judge.asked) == list("abcde")


@pytest.mark.parametrize("compares", [False, True])
def test_a_bug_of_the_judge_reaches_everyone_who_waits(compares):
    judge = Judge(compares, error=ZeroDivisionError("a bug"))
    assert [type(result) for result in ask(judge, EPISODES, {7: 3, 8: 2})] == [ZeroDivisionError] * 5


def episode(value, score):
    outcome = None if value is None else Outcome(value=value, low=0.0, high=1.0, success=value == 1.0, components={})
    return Rollout((1, 2), (False, True), (0.0, -1.0), 1, None, outcome, score)


GROUP = [
    episode(1.0, Score(0.5)),
    episode(0.0, Score.missing("timeout")),
    episode(None, Score.missing("broken")),
    episode(1.0, Score(0.0)),
]


def test_masking_leaves_out_episodes_without_a_score_and_nothing_else():
    plain, masked = reward_tensors(GROUP, 4), reward_tensors(GROUP, 4, masks_unjudged=True)
    assert plain["outcome_valid_PG"].tolist() == [[True, True, False, True]]
    assert masked["outcome_valid_PG"].tolist() == [[True, False, False, True]]
    assert masked["reasoning_valid_PG"].tolist() == plain["reasoning_valid_PG"].tolist() == [[True, False, False, True]]
    unjudged = [episode(1.0, None), episode(0.0, None)]
    assert reward_tensors(unjudged, 2, masks_unjudged=True)["outcome_valid_PG"].all()


def test_raising_counts_what_is_missing_but_not_what_broke():
    with pytest.raises(JudgeFailure, match=r"^1 of 4 episodes have no judge score.*, 1 of them because 'timeout'"):
        refuse_missing(GROUP)
    refuse_missing([GROUP[0], GROUP[2], GROUP[3]])
    unknown = replace(GROUP[0], reference=Score.missing("server down"))
    with pytest.raises(JudgeFailure, match=r"^1 of 2 .* solution has none, 1 of them because 'server down'"):
        refuse_missing([unknown, GROUP[2]])
    refuse_missing([replace(GROUP[0], reference=Score(0.5))])


@pytest.mark.parametrize("compares", [False, True])
def test_a_judge_that_loses_a_score_is_a_bug_of_the_judge(compares):
    class Losing(Judge):
        def score(self, transcripts):
            return super().score(transcripts)[1:]

    results = ask(Losing(compares=compares), EPISODES, {7: 3, 8: 2})
    assert all("Losing returned" in str(error) and isinstance(error, ValueError) for error in results)


def test_who_no_longer_waits_keeps_nobody_from_a_score():
    async def everyone():
        desk = JudgeDesk(Judge(compares=True), {7: 2})
        first = asyncio.ensure_future(desk.score(7, "a"))
        await asyncio.sleep(0)
        first.cancel()
        return await desk.score(7, "c")

    assert asyncio.run(everyone()).value == 0.2


def test_the_bill_is_what_came_since_the_last_one():
    class Counting(Judge):
        totals = Totals()

    judge = Counting()
    bill = JudgeBill(judge)
    judge.totals.requests, judge.totals.cost, judge.totals.latency_s, judge.totals.cache_hits = 4, 0.5, 2.0, 1
    assert bill.since_last(1) == {
        "judge/requests": 4.0,
        "judge/cache_hits": 1.0,
        "judge/cost": 0.5,
        "judge/latency": 0.5,
    }
    judge.totals.requests += 1
    assert bill.since_last(1)["judge/requests"] == 1.0
    assert bill.since_last(1)["judge/latency"] == 0.0
    assert JudgeBill(Judge()).since_last(1) == JudgeBill(None).since_last(1) == {}


def told(caplog, watch, steps):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for step, metrics in enumerate(steps):
            watch.look(step, metrics)
    return [record.getMessage() for record in caplog.records]


def test_missing_scores_are_told_once_and_their_return_too(caplog):
    shares = [0.0, 0.2, 0.21, 1.0, 1.0, 0.1, 0.0, 0.5]
    messages = told(caplog, JudgeWatch(), [{"judge/missing_rate": share} for share in shares])
    assert [message.split(":")[0] for message in messages] == ["step 2", "step 5", "step 7"]
    assert "21 % of the episodes have no judge score" in messages[0] and "is back" in messages[1]
    (message,) = told(caplog, JudgeWatch(), [{"judge/missing_rate": 0.1, "judge/reference_missing": 0.5}])
    assert "50 % of the tasks' own solutions have no judge score" in message


def test_a_judge_that_turns_against_the_outcome_is_told(caplog):
    steady = [{"judge/outcome_correlation": 0.6 + 0.2 * (-1) ** step} for step in range(50)]
    assert told(caplog, JudgeWatch(), [*steady, {}]) == []
    turning = [{"judge/outcome_correlation": 0.8 - 0.05 * max(0, step - 12)} for step in range(40)]
    (message,) = told(caplog, JudgeWatch(), turning)
    assert "agree less and less" in message and "once 0.80" in message
    # One lucky group at the start is no best to fall from.
    assert told(caplog, JudgeWatch(), [{"judge/outcome_correlation": value} for value in [1.0, *[0.3] * 30]]) == []

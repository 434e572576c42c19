"""Rollouts: every id, mark and log-probability where it belongs; budgets, breakage and judges."""

import asyncio
import threading

import numpy as np
import pytest

from awpo_agent.engines.base import Completion
from awpo_agent.engines.scripted import ScriptedEngine
from awpo_agent.judging import JudgeDesk
from awpo_agent.rollout import EnvironmentPool, EpisodeKey, RolloutLimits, collect, run_episode
from awpo_env.env import ToolUseEnv
from awpo_env.judges.scripted import ScriptedJudge
from awpo_env.types import Score

LIMITS = RolloutLimits(max_length=600, max_turn_length=150)


def one_step_seed():
    env = ToolUseEnv("calculator")
    for seed in range(100):
        env.reset(seed=seed)
        if env.task.kind == "one_step":
            return seed, env.task
    raise AssertionError("no task of one step")


SEED, TASK = one_step_seed()
KEY = EpisodeKey(seed=3, step=1, episode=5, task_seed=SEED)


class TimedEngine:
    """Answers (ids, finish_reason) from a list; log-probability -k/8 for the k-th token of a message."""

    def __init__(self, replies):
        self.replies, self.calls = list(replies), []

    async def generate(self, prompt_ids, sampling):
        self.calls.append((tuple(prompt_ids), sampling))
        ids, reason = self.replies.pop(0)
        return Completion(tuple(ids), tuple(-k / 8 for k in range(1, len(ids) + 1)), reason)


def play(chat, engine, *, env=None, key=KEY, limits=LIMITS, judge=None):
    desk = JudgeDesk(judge, {}) if judge is not None else None
    return asyncio.run(run_episode(env or ToolUseEnv("calculator"), engine, chat, key, limits, desk))


def reference_texts():
    parser = ToolUseEnv("calculator").parser
    return [parser.format(message) for message in TASK.turns[0].reference]


def prompt_of(chat):
    env = ToolUseEnv("calculator")
    observation, _ = env.reset(seed=SEED)
    return chat.prompt(observation["messages"], observation["tools"])


def result_text():
    call = TASK.turns[0].reference[0].calls[0]
    value = TASK.turns[0].facts[0].value
    assert call.name in ("add", "subtract", "multiply", "divide")
    return (
        f'\n<|im_start|>user\n<tool_response>{{"result": {value}}}</tool_response><|im_end|>\n<|im_start|>assistant\n'
    )


def test_an_episode_of_two_messages_position_by_position(chat):
    first, second = (chat.assistant(text) for text in reference_texts())
    engine = TimedEngine([(first, "stop"), (second, "stop")])
    rollout = play(chat, engine, judge=ScriptedJudge([0.75]))
    prompt, result = prompt_of(chat), chat.tokenizer.encode(result_text(), add_special_tokens=False)
    assert rollout.ids == (*prompt, *first, *result, *second)
    marks = [False] * len(prompt) + [True] * len(first) + [False] * len(result) + [True] * len(second)
    assert rollout.is_sampled == tuple(marks)
    steps = [[-k / 8 for k in range(1, len(ids) + 1)] for ids in (first, second)]
    assert rollout.logprobs == (*[0.0] * len(prompt), *steps[0], *[0.0] * len(result), *steps[1])
    assert rollout.num_prompt_tokens == len(prompt)
    assert rollout.num_sampled_tokens == len(first) + len(second)
    assert rollout.outcome.success and rollout.outcome.value == 1.0
    assert rollout.reasoning == Score(0.75)
    assert rollout.info == {"task_id": TASK.id, "kind": "one_step", "status": "completed"}
    assert [message["role"] for message in rollout.transcript.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]


def test_the_engine_is_asked_with_the_whole_conversation_and_the_right_sampling(chat):
    first, second = (chat.assistant(text) for text in reference_texts())
    engine = TimedEngine([(first, "stop"), (second, "stop")])
    play(chat, engine, limits=RolloutLimits(600, 150, temperature=0.5, top_k=7, top_p=0.9))
    (prompt_1, sampling), (prompt_2, later) = engine.calls
    assert list(prompt_1) == prompt_of(chat)
    assert list(prompt_2) == [*prompt_1, *first, *chat.tokenizer.encode(result_text(), add_special_tokens=False)]
    assert (sampling.key, sampling.stop_ids) == ((3, 1, 5), chat.stop_ids)
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.5, 7, 0.9)
    assert sampling.max_tokens == later.max_tokens == 150


def test_a_message_that_is_cut_off_gets_an_end_that_carries_no_loss(chat):
    text = reference_texts()[0]
    cut = chat.assistant(text)[:-1]  # the call is whole, only the end token is missing
    second = chat.assistant(reference_texts()[1])
    rollout = play(chat, TimedEngine([(cut, "length"), (second, "stop")]))
    at = rollout.num_prompt_tokens + len(cut)
    assert rollout.ids[at] == chat.stop_ids[0]
    assert not rollout.is_sampled[at] and rollout.logprobs[at] == 0.0
    assert rollout.is_sampled[at - 1]
    assert rollout.ids[at + 1 :][: len(chat.tokenizer.encode(result_text()))] == tuple(
        chat.tokenizer.encode(result_text())
    )
    assert rollout.num_sampled_tokens == len(cut) + len(second)
    assert rollout.outcome.success


def test_a_spent_budget_truncates_the_episode(chat):
    first = chat.assistant(reference_texts()[0])
    room = len(prompt_of(chat)) + len(first)
    engine = TimedEngine([(first, "stop")])
    rollout = play(chat, engine, limits=RolloutLimits(room + 3, 500))
    assert engine.calls[0][1].max_tokens == len(first) + 3  # what is left of the conversation, not of the message
    assert rollout.transcript.status == rollout.info["status"] == "max_tokens"
    assert rollout.outcome is not None and not rollout.outcome.success
    assert rollout.num_sampled_tokens == len(first)
    last = chat.assistant(reference_texts()[1])
    whole = room + len(chat.tokenizer.encode(result_text()))
    engine = TimedEngine([(first, "stop"), (last[:2], "length")])
    play(chat, engine, limits=RolloutLimits(whole + 2, 500))
    assert engine.calls[1][1].max_tokens == 2


def test_a_prompt_beyond_the_budget_is_never_continued(chat):
    rollout = play(chat, TimedEngine([]), limits=RolloutLimits(5, 5))
    assert rollout.num_sampled_tokens == 0 and rollout.info["status"] == "max_tokens"


def test_sampled_ids_are_kept_whatever_they_decode_to(chat):
    rng = np.random.default_rng(0)
    vocabulary, num_changed = len(chat.tokenizer), 0
    env = ToolUseEnv("calculator", limits={"max_turns": 3})
    for episode in range(200):
        replies = [rng.integers(vocabulary, size=int(rng.integers(1, 12))).tolist() for _ in range(3)]
        engine = ScriptedEngine(replies)
        key = EpisodeKey(0, 0, episode, int(rng.integers(1000)))
        rollout = play(chat, engine, env=env, key=key)
        ids, at = list(rollout.ids), rollout.num_prompt_tokens
        for (prompt, sampling), reply in zip(engine.calls, replies, strict=False):
            assert list(prompt) == ids[: len(prompt)] and not any(rollout.is_sampled[at : len(prompt)])
            kept = reply[: next((i for i, token in enumerate(reply) if token in sampling.stop_ids), len(reply))]
            at = len(prompt) + len(kept) + 1
            assert ids[len(prompt) : at] == [*kept, sampling.stop_ids[0]]
            assert all(rollout.is_sampled[len(prompt) : at])
            num_changed += chat.tokenizer.encode(chat.decode(kept), add_special_tokens=False) != kept
        assert at == len(ids)
    assert num_changed > 100  # decoding and encoding again would have trained on other tokens


# ---- breakage and judges


class FailingUser:
    def __init__(self, task):
        self._first = task.turns[0].message

    def next(self, messages):
        if len(messages) > 1:
            raise RuntimeError("the line is dead")
        return self._first


def test_a_broken_environment_has_no_outcome(chat):
    env = ToolUseEnv("calculator", make_user=FailingUser)
    rollout = play(chat, ScriptedEngine([chat.assistant("Hello.")]), env=env)
    assert rollout.outcome is None
    assert rollout.info["status"] == "environment_error" and "the line is dead" in rollout.info["error"]


def test_a_missing_score_stays_missing(chat):
    rollout = play(chat, ScriptedEngine([chat.assistant("Hi.")]), judge=ScriptedJudge([Score.missing("timed out")]))
    assert rollout.reasoning.is_missing and rollout.reasoning.reason == "timed out"
    assert play(chat, ScriptedEngine([chat.assistant("Hi.")])).reasoning is None


def test_a_waiting_judge_holds_back_nobody(chat):
    others_went_on = threading.Event()
    asked = []

    class PatientJudge:
        def score(self, transcripts):
            return [Score(1.0) if others_went_on.wait(timeout=30) else Score(0.0)]

    async def reply(prompt, key):
        asked.append(key)
        # The second episode speaks again only once the first is with its judge.
        if key == 1 and asked.count(1) == 2:
            await asyncio.sleep(0)
            others_went_on.set()

    class Engine:
        async def generate(self, prompt_ids, sampling):
            episode = sampling.key[2]
            await reply(prompt_ids, episode)
            texts = reference_texts() if episode == 1 else ["I do not know."]
            ids = chat.assistant(texts[min(asked.count(episode), len(texts)) - 1])
            return Completion(tuple(ids), (0.0,) * len(ids), "stop")

    keys = [EpisodeKey(0, 0, 0, SEED), EpisodeKey(0, 0, 1, SEED)]
    rollouts = collect(EnvironmentPool(lambda: ToolUseEnv("calculator")), Engine(), chat, keys, LIMITS, PatientJudge())
    assert asked == [0, 1, 1]
    assert [rollout.reasoning.value for rollout in rollouts] == [1.0, 1.0]


@pytest.mark.parametrize("compares", [False, True])
def test_the_judge_may_be_shown_each_task_s_own_solution(chat, compares):
    asked = []

    class LengthJudge:
        def score(self, transcripts):
            asked.append([transcript.task.id for transcript in transcripts])
            return [Score(len(transcript.messages) / 100) for transcript in transcripts]

    LengthJudge.compares = compares
    keys = [EpisodeKey(0, 0, episode, (SEED, SEED + 1)[episode // 2]) for episode in range(4)]
    pool, engine = (
        EnvironmentPool(lambda: ToolUseEnv("calculator")),
        ScriptedEngine(lambda *_: chat.assistant("I do not know.")),
    )
    rollouts = collect(pool, engine, chat, keys, LIMITS, LengthJudge(), judges_references=True)
    for rollout in rollouts:
        (turn,) = rollout.transcript.task.turns
        calls = sum(len(message.calls) for message in turn.reference)
        assert rollout.reference.value == (2 + len(turn.reference) + calls) / 100
        assert rollout.reasoning.value == 0.03 and rollout.outcome.value == 0.0
    assert sorted(map(len, asked)) == ([3, 3] if compares else [1] * 6)
    assert all(len(set(together)) == 1 for together in asked)
    plain = collect(pool, engine, chat, keys, LIMITS, LengthJudge())
    assert [rollout.reference for rollout in plain] == [None] * 4
    assert [rollout.ids for rollout in plain] == [rollout.ids for rollout in rollouts]


def test_rollouts_come_back_in_the_order_of_their_keys(chat):
    class Engine:
        async def generate(self, prompt_ids, sampling):
            for _ in range(10 - sampling.key[2]):  # later keys answer sooner
                await asyncio.sleep(0)
            ids = chat.assistant(f"I am {sampling.key[2]}.")
            return Completion(tuple(ids), (0.0,) * len(ids), "stop")

    made, ended = [], []

    def make():
        made.append(ToolUseEnv("calculator", limits={"max_turns": 1}))
        return made[-1]

    pool = EnvironmentPool(make)
    keys = [EpisodeKey(0, 0, episode, task_seed=episode // 3) for episode in range(6)]
    rollouts = collect(pool, Engine(), chat, keys, LIMITS, on_end=ended.append)
    assert [rollout.transcript.messages[2]["content"] for rollout in rollouts] == [f"I am {i}." for i in range(6)]
    assert len(ended) == 6 and ended[0] is rollouts[5]
    tasks = [rollout.info["task_id"] for rollout in rollouts]
    assert len(set(tasks[:3])) == len(set(tasks[3:])) == 1 and tasks[0] != tasks[3]
    assert len(made) == 6
    assert [r.ids for r in collect(pool, Engine(), chat, keys, LIMITS)] == [r.ids for r in rollouts]
    assert len(made) == 6  # they are used again
    pool.close()
    with pytest.raises(ValueError, match="no episode is running"):
        made[0].step("Hello.")

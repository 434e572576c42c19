"""Rollouts over tools that wait, hang or crash: each holds back its own episode and nobody else's."""

import dataclasses
import json
import threading
import time

import pytest

from awpo_agent.config import AWPOConfig
from awpo_agent.engines.scripted import ScriptedEngine
from awpo_agent.rollout import EnvironmentPool, EpisodeKey, RolloutLimits, collect
from awpo_env.env import ToolUseEnv
from awpo_env.errors import UsageError
from awpo_env.suites import load_suite
from awpo_env.types import AssistantMessage, Task, UserTurn

LIMITS = RolloutLimits(max_length=900, max_turn_length=200)
CALCULATOR = load_suite("calculator")
# Its reference calls no tool, so that every call below is one of an episode.
TASK = Task("idle", "idle", {}, (UserTurn("Add something.", (AssistantMessage(content="Done."),)),))
FAR = 60.0


def calculator(add, *, waits=True):
    """The calculator with another addition; `add` is given the episode's number, which stands in the arguments."""

    def method(self, a, b):
        return {"result": add(int(a))}

    backend = type("Backend", (CALCULATOR.backend,), {"add": method, "waits": waits})
    return dataclasses.replace(CALCULATOR, backend=backend, generate=None, presets=(), tasks={TASK.id: TASK})


def play(chat, suite, num_episodes, tool_concurrency=64, **settings):
    """Play episodes that call the tool once and then speak."""

    def reply(prompt, sampling):
        episode, is_first = sampling.key[2], "<tool_response>" not in chat.tokenizer.decode(list(prompt))
        call = json.dumps({"name": "add", "arguments": {"a": episode, "b": 0}})
        return chat.assistant(f"<tool_call>{call}</tool_call>" if is_first else "Done.")

    pool = EnvironmentPool(lambda: ToolUseEnv(suite, **settings))
    keys = [EpisodeKey(0, 0, episode, task_seed=0) for episode in range(num_episodes)]
    ended = []
    rollouts = collect(pool, ScriptedEngine(reply), chat, keys, LIMITS, None, ended.append, tool_concurrency)
    pool.close()
    return rollouts, [rollouts.index(rollout) for rollout in ended]


def results(rollouts):
    tools = [[message for message in rollout.transcript.messages if message["role"] == "tool"] for rollout in rollouts]
    return [json.loads(tool[0]["content"]) if tool else None for tool in tools]


def test_a_waiting_tool_holds_back_nobody_else(chat):
    others = threading.Barrier(4)

    def add(episode):
        others.wait(FAR)  # passes only when all are in the tool together
        if episode == 0:
            time.sleep(0.2)
        return episode

    rollouts, order = play(chat, calculator(add), 4)
    assert results(rollouts) == [{"result": episode} for episode in range(4)]
    assert order[-1] == 0 and {rollout.info["status"] for rollout in rollouts} == {"completed"}


def test_no_more_episodes_wait_at_a_time_than_allowed(chat):
    lock, pair, running, most = threading.Lock(), threading.Barrier(2), 0, 0

    def add(episode):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pair.wait(FAR)  # two do run together
        time.sleep(0.02)
        with lock:
            running -= 1
        return episode

    rollouts, _ = play(chat, calculator(add), 6, tool_concurrency=2)
    assert results(rollouts) == [{"result": episode} for episode in range(6)]
    assert most == 2


def test_what_breaks_or_hangs_costs_its_own_episode(chat):
    hung = threading.Event()

    def add(episode):
        if episode == 1:
            raise SystemError("out of order")
        if episode == 2:
            hung.wait(FAR)
        return episode

    rollouts, _ = play(chat, calculator(add), 4, tool_timeout=1.0)
    hung.set()
    statuses = [rollout.info["status"] for rollout in rollouts]
    assert statuses == ["completed", "environment_error", "completed", "completed"]
    assert "SystemError: out of order" in rollouts[1].info["error"] and rollouts[1].outcome is None
    late = {"error": {"code": "timeout", "message": "add did not answer within 1 s"}}
    assert results(rollouts) == [{"result": 0}, None, late, {"result": 3}]


@pytest.mark.parametrize("waits", [False, True])
def test_tools_that_answer_at_once_run_in_place(chat, waits):
    threads = set()

    def add(episode):
        threads.add(threading.current_thread())
        return episode

    rollouts, order = play(chat, calculator(add, waits=waits), 3)
    assert results(rollouts) == [{"result": episode} for episode in range(3)]
    assert (threading.current_thread() in threads) is not waits
    if not waits:
        assert len(threads) == 1 and order == [0, 1, 2]


def test_results_are_cut_where_the_tokenizer_says(chat):
    def add(episode):
        return "4711 " * 200

    rollouts, _ = play(chat, calculator(add, waits=False), 1, limits={"max_result_tokens": 40})
    content = next(message["content"] for message in rollouts[0].transcript.messages if message["role"] == "tool")
    kept, mark, rest = content.rpartition(" ...[cut off: ")
    assert mark and chat.count(content) <= 40 < chat.count(f'"{"4711 " * 200}"'[: len(kept) + 1] + mark + rest)


def test_somebody_has_to_be_allowed_to_wait():
    with pytest.raises(UsageError, match="tool_concurrency is 0, expected at least 1"):
        AWPOConfig(tool_concurrency=0).check()

"""Episodes as coroutines: an environment, an engine and a judge make one token-exact rollout each."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import gymnasium

from awpo_agent.chat import ChatTokens
from awpo_agent.engines.base import Completion, Engine, Sampling
from awpo_agent.interruption import Interruption
from awpo_agent.judging import JudgeDesk
from awpo_agent.types import Rollout
from awpo_env.demonstrations import solve
from awpo_env.judges.base import Judge
from awpo_env.types import EpisodeStatus, Transcript


@dataclass(frozen=True, slots=True)
class RolloutLimits:
    """How long an episode may get, and how its tokens are drawn.

    Attributes:
        max_length: Most tokens of a whole conversation.
        max_turn_length: Most tokens of one assistant message.
        temperature: 0 is greedy.
        top_k: 0 keeps all.
        top_p: 1.0 keeps all.
    """

    max_length: int
    max_turn_length: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class EpisodeKey:
    """Names an episode: where its task and its sampling noise come from.

    Attributes:
        seed: The run's seed.
        step: The training step, or an evaluation's own number.
        episode: Number of the episode within the step, over all processes.
        task_seed: The environment is reset with it; equal for all rollouts of a group.
    """

    seed: int
    step: int
    episode: int
    task_seed: int


async def run_episode(
    env: gymnasium.Env[dict[str, Any], str],
    engine: Engine,
    chat: ChatTokens,
    key: EpisodeKey,
    limits: RolloutLimits,
    desk: JudgeDesk | None = None,
    threads: Executor | None = None,
) -> Rollout:
    """Play one episode to its end and return it as tokens and rewards.

    Tokens are recorded as they are sampled; what the environment answers is appended as the template's own delta. An
    environment that waits for its tools does so in one of `threads`; one that answers at once runs in place.
    """
    run = functools.partial(_run, env, threads)
    env.unwrapped.count_tokens = chat.count
    observation, info = await run(functools.partial(env.reset, seed=key.task_seed))
    ids = chat.prompt(observation["messages"], observation["tools"])
    num_prompt_tokens = len(ids)
    is_sampled, logprobs = [False] * len(ids), [0.0] * len(ids)

    def append(new_ids: Sequence[int], new_logprobs: Sequence[float] | None = None) -> None:
        ids.extend(new_ids)
        is_sampled.extend([new_logprobs is not None] * len(new_ids))
        logprobs.extend(new_logprobs if new_logprobs is not None else [0.0] * len(new_ids))

    while True:
        budget = min(limits.max_turn_length, limits.max_length - len(ids))
        if budget < 1:
            _, _, _, _, info = await run(functools.partial(env.unwrapped.truncate, EpisodeStatus.MAX_TOKENS))
            break
        completion = await engine.generate(ids, _sampling(chat, key, limits, budget))
        append(completion.ids, completion.logprobs)
        text = chat.decode(completion.ids)
        observation, _, terminated, truncated, info = await run(functools.partial(env.step, text))
        if terminated or truncated:
            break
        append(_after(chat, completion, observation["new_messages"][1:]))
    transcript = env.unwrapped.transcript
    return Rollout(
        ids=tuple(ids),
        is_sampled=tuple(is_sampled),
        logprobs=tuple(logprobs),
        num_prompt_tokens=num_prompt_tokens,
        transcript=transcript,
        outcome=info["outcome"],
        reasoning=await desk.score(key.task_seed, transcript) if desk is not None else None,
        info={name: info[name] for name in ("task_id", "kind", "status", "error") if name in info},
    )


async def _run(env: gymnasium.Env[dict[str, Any], str], threads: Executor | None, work: Callable[[], Any]) -> Any:
    waits = env.has_wrapper_attr("answers_at_once") and not env.get_wrapper_attr("answers_at_once")
    return await asyncio.get_running_loop().run_in_executor(threads, work) if waits else work()


def _sampling(chat: ChatTokens, key: EpisodeKey, limits: RolloutLimits, budget: int) -> Sampling:
    return Sampling(
        max_tokens=budget,
        stop_ids=chat.stop_ids,
        key=(key.seed, key.step, key.episode),
        temperature=limits.temperature,
        top_k=limits.top_k,
        top_p=limits.top_p,
    )


def _after(chat: ChatTokens, completion: Completion, messages: Sequence[dict[str, Any]]) -> list[int]:
    # A message cut off by its budget has no end token; the environment supplies it, and it carries no loss.
    end = [] if completion.finish_reason == "stop" else [chat.stop_ids[0]]
    return end + chat.delta(messages)


class EnvironmentPool:
    """Environments made on demand and used again, one for each episode that runs at the same time.

    Args:
        make: Makes one environment.
    """

    def __init__(self, make: Callable[[], gymnasium.Env[dict[str, Any], str]]) -> None:
        self._make = make
        self._idle: list[gymnasium.Env[dict[str, Any], str]] = []
        self._taken: list[gymnasium.Env[dict[str, Any], str]] = []

    def take(self) -> gymnasium.Env[dict[str, Any], str]:
        """Return an environment nobody else uses."""
        env = self._idle.pop() if self._idle else self._make()
        self._taken.append(env)
        return env

    def give_back(self, env: gymnasium.Env[dict[str, Any], str]) -> None:
        """Return an environment after its episode."""
        self._taken.remove(env)
        self._idle.append(env)

    def close(self) -> None:
        """Close all environments, those too whose episodes were broken off."""
        for environments in (self._idle, self._taken):
            while environments:
                environments.pop().close()


def collect(
    pool: EnvironmentPool,
    engine: Engine,
    chat: ChatTokens,
    keys: Sequence[EpisodeKey],
    limits: RolloutLimits,
    judge: Judge | None = None,
    on_end: Callable[[Rollout], None] | None = None,
    tool_concurrency: int = 64,
    judges_references: bool = False,
    interruption: Interruption | None = None,
) -> list[Rollout]:
    """Run one episode per key, all at the same time, and return the rollouts in the order of the keys.

    Args:
        judge: Scores each episode as it ends, while others go on; keys of one `task_seed` are a group.
        on_end: Called with each rollout as it ends, for progress bars.
        tool_concurrency: Most episodes that wait for their tools at the same time; others wait for their turn.
        judges_references: Whether the judge scores the own solution of each group's task, too.
        interruption: Breaks all episodes off when it is asked for.

    Raises:
        asyncio.CancelledError: They were broken off.
    """
    interruption = interruption or Interruption()
    threads = ThreadPoolExecutor(tool_concurrency, thread_name_prefix="awpo-step")
    judging = ThreadPoolExecutor(thread_name_prefix="awpo-judge")
    sizes = Counter(key.task_seed for key in keys)

    async def play(key: EpisodeKey, desk: JudgeDesk | None) -> Rollout:
        env = pool.take()
        rollout = await run_episode(env, engine, chat, key, limits, desk, threads)
        pool.give_back(env)
        if on_end is not None:
            on_end(rollout)
        return rollout

    async def everything() -> list[Rollout]:
        if judge is None:
            return list(await asyncio.gather(*(play(key, None) for key in keys)))
        solutions = await _solutions(pool, chat, sizes, threads) if judges_references else {}
        desk = JudgeDesk(judge, sizes + Counter(solutions.keys()), judging)
        rollouts, scores = await asyncio.gather(
            asyncio.gather(*(play(key, desk) for key in keys)),
            asyncio.gather(*(desk.score(seed, solution) for seed, solution in solutions.items())),
        )
        references = dict(zip(solutions, scores, strict=True))
        return [
            replace(rollout, reference=references.get(key.task_seed))
            for key, rollout in zip(keys, rollouts, strict=True)
        ]

    try:
        return asyncio.run(interruption.unless_asked(everything()))
    finally:
        # Tools and judges that are at it cannot be broken off; who was asked to stop has no time to wait for them.
        for pool_of_threads in (threads, judging):
            pool_of_threads.shutdown(wait=not interruption.is_asked, cancel_futures=True)


async def _solutions(
    pool: EnvironmentPool, chat: ChatTokens, task_seeds: Iterable[int], threads: Executor
) -> dict[int, Transcript]:
    """Play the own solutions of tasks, before any episode: a judge that compares has to know how many will come."""

    def solve_one(env: gymnasium.Env[dict[str, Any], str], task_seed: int) -> Transcript | None:
        env.unwrapped.count_tokens = chat.count
        env.reset(seed=task_seed)
        return solve(env.unwrapped)

    async def play(task_seed: int) -> tuple[int, Transcript | None]:
        env = pool.take()
        solution = await _run(env, threads, functools.partial(solve_one, env, task_seed))
        pool.give_back(env)
        return task_seed, solution

    played = await asyncio.gather(*map(play, task_seeds))
    return {task_seed: solution for task_seed, solution in played if solution is not None}

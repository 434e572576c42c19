"""``awpo eval``: success rate, pass@k and pass^k of any policy on held-out tasks, with intervals, by task kind."""

from __future__ import annotations

import argparse
import functools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from awpo_agent.chat import ChatTokens
from awpo_agent.engines.hf import TransformersEngine
from awpo_agent.intervals import Estimate, mean_rate, pass_at_k, pass_hat_k, success_rate
from awpo_agent.report import print_report, print_standing, write_json, write_markdown
from awpo_agent.rollout import EnvironmentPool, EpisodeKey, RolloutLimits, collect
from awpo_agent.train import load_policy
from awpo_agent.types import Rollout
from awpo_env.catalogue import make
from awpo_env.demonstrations import unfinished_reference
from awpo_env.errors import UsageError, did_you_mean
from awpo_env.wrappers.chosen_tasks import ChosenTasks, each_once

MakeEnv = Callable[[], gymnasium.Env[dict[str, Any], str]]
"""Makes one environment."""

_LAST_TASK_SEED = 2**31 - 1
_ROWS = 128
_TURN_LENGTH = 96


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """One evaluated episode.

    It is not scored, and `success` is None, when the environment broke or the policy gave no answer; `problem` says so.
    """

    task_id: str
    kind: str
    status: str
    success: bool | None
    reward: float | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluation found.

    Attributes:
        success: Over all scored episodes.
        by_kind: The same for each task kind.
        pass_at: k to the chance that one of k tries succeeds.
        pass_hat: k to the chance that all of k tries succeed.
        statuses: How often each status ended an episode.
        num_unscored: Episodes the environment broke in, or the policy gave no answer.
        problems: How often what kept an episode from being scored.
        usage: Requests and tokens of a policy behind a server.
    """

    success: Estimate
    by_kind: dict[str, Estimate]
    pass_at: dict[int, Estimate]
    pass_hat: dict[int, Estimate]
    statuses: dict[str, int]
    num_unscored: int
    problems: dict[str, int]
    usage: dict[str, int]


def summarise(results: Sequence[EpisodeResult], num_tries: int, usage: Mapping[str, int] | None = None) -> Report:
    """Return the report of `results`, which hold every task `num_tries` times in a row.

    Raises:
        UsageError: No episode could be scored.
    """
    scored = [result for result in results if result.success is not None]
    problems = Counter(result.problem or "the environment broke" for result in results if result.success is None)
    if not scored:
        problem = problems.most_common(1)[0][0]
        raise UsageError(f"no episode could be scored: {problem}; see 'awpo env check', or look at the policy's server")
    tasks = [results[start : start + num_tries] for start in range(0, len(results), num_tries)]
    kinds: dict[str, list[float]] = defaultdict(list)
    for task in tasks:
        if successes := [bool(result.success) for result in task if result.success is not None]:
            kinds[task[0].kind].append(sum(successes) / len(successes))
    rate = mean_rate if num_tries > 1 else lambda rates: success_rate(int(sum(rates)), len(rates))
    counts = [sum(bool(r.success) for r in task) for task in tasks if all(r.success is not None for r in task)]
    ks = [k for k in (1, 2, 4, 8, 16) if k <= num_tries] if counts else []
    return Report(
        success=rate([value for rates in kinds.values() for value in rates]),
        by_kind={kind: rate(rates) for kind, rates in sorted(kinds.items())},
        pass_at={k: pass_at_k(counts, num_tries, k) for k in ks},
        pass_hat={k: pass_hat_k(counts, num_tries, k) for k in ks},
        statuses=dict(sorted(Counter(result.status for result in results).items())),
        num_unscored=len(results) - len(scored),
        problems=dict(problems.most_common()),
        usage=dict(usage or {}),
    )


def task_seeds(seed: int, num_tasks: int) -> list[int]:
    """Return the seeds environments are reset with; equal seeds give equal tasks, whatever the policy."""
    return [int(value) for value in np.random.default_rng([seed, 7]).integers(_LAST_TASK_SEED, size=num_tasks)]


def evaluate_model(
    model: Any,
    chat: ChatTokens,
    make_env: MakeEnv,
    *,
    num_tasks: int,
    num_tries: int,
    seed: int,
    limits: RolloutLimits,
    on_end: Callable[[], None] = lambda: None,
) -> list[EpisodeResult]:
    """Play `num_tasks` tasks `num_tries` times each with a Hugging Face model, on the GPU if there is one."""
    # Not a Mac's graphics: the engine draws in double precision, which it does not have.
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    engine = TransformersEngine(model, max_rows=_ROWS, max_length=limits.max_length)
    keys = [
        EpisodeKey(seed, step=0, episode=number * num_tries + attempt, task_seed=task_seed)
        for number, task_seed in enumerate(task_seeds(seed, num_tasks))
        for attempt in range(num_tries)
    ]
    results: list[EpisodeResult] = []
    pool = EnvironmentPool(make_env)
    for start in range(0, len(keys), _ROWS):
        rollouts = collect(pool, engine, chat, keys[start : start + _ROWS], limits, on_end=lambda rollout: on_end())
        results += [_result(rollout) for rollout in rollouts]
    pool.close()
    return results


def evaluate_script(
    name: str,
    make_env: MakeEnv,
    *,
    num_tasks: int,
    num_tries: int,
    seed: int,
    on_end: Callable[[], None] = lambda: None,
) -> list[EpisodeResult]:
    """The same for a scripted policy: ``oracle``, ``random`` or ``nothing``."""
    env = make_env()
    env.action_space.seed(seed)
    results = []
    for task_seed in task_seeds(seed, num_tasks):
        for _ in range(num_tries):
            _, info = env.reset(seed=task_seed)
            reward, is_over, actions = 0.0, False, SCRIPTS[name](env)
            while not is_over:
                action = next(actions, None)
                if action is None:
                    raise unfinished_reference(info["task_id"])
                _, reward, terminated, truncated, info = env.step(action)
                is_over = terminated or truncated
            outcome = info["outcome"]
            results.append(
                EpisodeResult(
                    task_id=info["task_id"],
                    kind=info["kind"],
                    status=info["status"],
                    success=None if outcome is None else outcome.success,
                    reward=None if outcome is None else reward,
                    problem=info.get("error"),
                )
            )
            on_end()
    env.close()
    return results


def _oracle(env: gymnasium.Env[dict[str, Any], str]) -> Any:
    for turn in env.unwrapped.task.turns:
        for message in turn.reference:
            yield env.unwrapped.parser.format(message)


def _random(env: gymnasium.Env[dict[str, Any], str]) -> Any:
    while True:
        yield env.action_space.sample()


def _nothing(env: gymnasium.Env[dict[str, Any], str]) -> Any:
    while True:
        yield ""


SCRIPTS = {"oracle": _oracle, "random": _random, "nothing": _nothing}
"""Scripted policies by name: environment -> the texts it writes, one after the other."""


def _result(rollout: Rollout) -> EpisodeResult:
    outcome = rollout.outcome
    return EpisodeResult(
        task_id=rollout.info["task_id"],
        kind=rollout.info["kind"],
        status=rollout.info["status"],
        success=None if outcome is None else outcome.success,
        reward=None if outcome is None else outcome.value,
        problem=rollout.info.get("error"),
    )


_POLICIES = "oracle, random, nothing, hf:<checkpoint folder or 'base'>, or openai:<base url>#<model>"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``awpo eval``."""
    parser.add_argument("--env", required=True, help="environment id or suite: awpo/Retail-v0, ./my_suite")
    parser.add_argument("--policy", required=True, help=_POLICIES)
    parser.add_argument("--preset", help="the task generator's preset; default: the suite's first")
    parser.add_argument(
        "--env-kwargs",
        type=json.loads,
        default={},
        metavar="JSON",
        help="""passed to gymnasium.make: '{"path": "."}'""",
    )
    parser.add_argument("--split", default="test", choices=("train", "test", "all"), help="default: %(default)s")
    parser.add_argument("--every-task", action="store_true", help="play each task of the split, --episodes or not")
    parser.add_argument("--episodes", type=int, default=200, metavar="N", help="tasks to play (default %(default)s)")
    parser.add_argument(
        "--tries", type=int, default=1, metavar="K", help="times each task is played, for pass@k and pass^k"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the tasks and the sampling noise")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 is greedy (default %(default)s)")
    parser.add_argument(
        "--max-length", type=int, default=640, help="most tokens of a conversation (default %(default)s)"
    )
    parser.add_argument(
        "--max-turn-length", type=int, help=f"most tokens of a message (default {_TURN_LENGTH}; of a server: its own)"
    )
    parser.add_argument(
        "--concurrency", type=int, default=16, help="most requests to a server at a time (default %(default)s)"
    )
    parser.add_argument(
        "--timeout", type=float, default=120.0, help="seconds a request may take a server (default %(default)s)"
    )
    parser.add_argument(
        "--template-options", type=json.loads, default={}, metavar="JSON", help="passed to the model's chat template"
    )
    parser.add_argument("--json", metavar="FILE", help="write the report and every episode to FILE")
    parser.add_argument("--markdown", metavar="FILE", help="write the report to FILE")


def run(args: argparse.Namespace) -> int:
    """Run ``awpo eval``."""
    for name in ("episodes", "tries", "max_length", "max_turn_length", "concurrency"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} is {getattr(args, name)}; expected at least 1")
    for name in ("template_options", "env_kwargs"):
        if not isinstance(getattr(args, name), dict):
            raise UsageError(f"--{name.replace('_', '-')} is {getattr(args, name)!r}; expected a JSON object")
    if args.seed < 0:
        raise UsageError(f"--seed is {args.seed}; expected 0 or more")
    if not args.temperature >= 0:
        raise UsageError(f"--temperature is {args.temperature}; expected 0 (greedy) or more")
    if not args.timeout > 0:
        raise UsageError(f"--timeout is {args.timeout}; expected seconds, more than 0")
    settings = {**args.env_kwargs, "split": args.split} | ({"preset": args.preset} if args.preset is not None else {})
    make_env = functools.partial(make, args.env, **settings)
    make_env().close()
    if args.every_task:
        make_env, args.episodes = _every_task(make_env, args.seed)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("episodes", total=args.episodes * args.tries)
        results, usage = _play(args, make_env, functools.partial(progress.advance, task))
    report = summarise(results, args.tries, usage)
    title = f"{args.policy} on {args.env}, {args.split}, {len(results)} episodes"
    print_report(report, title)
    print_standing(results)
    if args.json:
        write_json(Path(args.json), report, results)
    if args.markdown:
        write_markdown(Path(args.markdown), report, title, results)
    return 0


def _every_task(make_env: MakeEnv, seed: int) -> tuple[MakeEnv, int]:
    """Return what makes environments in which the seeds of an evaluation stand for all tasks, and their number."""
    env = make_env()
    chosen = each_once(env, task_seeds(seed, len(env.unwrapped.task_ids)))
    env.close()
    return (lambda: ChosenTasks(make_env(), chosen)), len(chosen)


def _play(
    args: argparse.Namespace, make_env: MakeEnv, on_end: Callable[[], None]
) -> tuple[list[EpisodeResult], dict[str, int]]:
    numbers = {"num_tasks": args.episodes, "num_tries": args.tries, "seed": args.seed, "on_end": on_end}
    if args.policy in SCRIPTS:
        return evaluate_script(args.policy, make_env, **numbers), {}
    if args.policy.startswith("openai:"):
        # Here, as it needs the extra `judge`.
        from awpo_agent.endpoint_policy import EndpointSettings, evaluate_endpoint

        base_url, _, model = args.policy.removeprefix("openai:").rpartition("#")
        numbers_of_server = (args.temperature, args.max_turn_length, args.concurrency, args.timeout)
        return evaluate_endpoint(EndpointSettings(base_url, model, *numbers_of_server), make_env, **numbers)
    if not args.policy.startswith("hf:"):
        hint = did_you_mean(args.policy, SCRIPTS)
        raise UsageError(f"unknown policy {args.policy!r}; expected {_POLICIES}.{hint}")
    name = args.policy.removeprefix("hf:")
    model, tokenizer = load_policy(name)
    limits = RolloutLimits(args.max_length, args.max_turn_length or _TURN_LENGTH, args.temperature)
    return evaluate_model(model, ChatTokens(tokenizer, args.template_options), make_env, limits=limits, **numbers), {}

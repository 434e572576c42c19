"""Runs of the exploring tier: what is learnt under, by which estimator, and tables trained so, all seeds at once."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import torch

from awpo_agent.advantages import ESTIMATORS, Advantages, AWPOSwitches, grpo
from awpo_agent.losses import clipped_surrogate

from candidate_policy import ACTIONS, MAX_CHOICES, Played, Player, Policies  # isort: skip  (this folder is on the path)

NUM_PROMPTS, NUM_GENERATIONS, NUM_PASSES, EPSILON = 8, 8, 2, 0.2
NUM_TASKS, NUM_TRIES, EVALUATE_EVERY = 60, 2, 3
NUM_WORDS = 60.0
BLAME = 0.35  # about the mean of what AWPO's rule of that name makes of a group: -min(0, z) of a normal z has mean 0.4

FIRST_TASK = {"table": 0, "tuning": 1000}
"""Tasks of the two uses start here, in both splits, so that rates are tuned on none of the tasks of the table."""


ELSEWHERE = {"meetings easy": ("awpo/Meetings-v0", "easy"), "filesystem easy": ("awpo/Filesystem-v0", "easy")}
"""Environments that nothing is trained on, of the table across suites, made in the setting `sparse`: what carries over
are habits, the shared weights of styles."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is learnt under.

    Attributes:
        right_logit: Decides the base success.
        noise: Standard deviation of what is added to a judge score, before it is cut to [0, 1].
        words_weight: Share of the judge's score that is paid by the word.
        missing_rate: Share of the judge's scores that are missing.
        hides_outcome: Whether estimators are told 0 as the outcome of every episode.
    """

    right_logit: float
    noise: float = 0.0
    words_weight: float = 0.0
    missing_rate: float = 0.0
    hides_outcome: bool = False


SETTINGS: Mapping[str, Setting] = {
    "easy": Setting(1.0),
    "scarce": Setting(-2.0),
    "sparse": Setting(-3.0),
    "noisy": Setting(-3.0, noise=0.3),
    "hackable": Setting(-3.0, words_weight=0.7),
    "missing": Setting(-3.0, missing_rate=0.3),
    "judge alone": Setting(-3.0, hides_outcome=True),
}


def blame_alike(*, outcome_PG: torch.Tensor, epsilon: float, **rewards: torch.Tensor) -> Advantages:
    """GRPO, but in a group where all fail everyone is blamed alike: what of AWPO's gain is not the judge's."""
    got = grpo(outcome_PG, epsilon=epsilon, **rewards)
    is_wrong_P1 = (outcome_PG == 0).all(dim=1, keepdim=True)
    return replace(got, advantages_PG=torch.where(is_wrong_P1, -BLAME, got.advantages_PG))


_SWITCHED = {
    f"awpo, {name} {value}": partial(ESTIMATORS["awpo"], switches=replace(AWPOSwitches(), **{name: value}))
    for name, values in {
        "all_wrong": ("reason", "outcome_only", "skip"),
        "judge_check": ("none",),
        "all_right": ("reason", "outcome_only"),
        "gate": ("std_ratio_reason", "hard", "none"),
        "coefficient": (0.25, 1.0),
        "reasoning_floor": (0.0, 0.1),
        "reasoning_scale": ("group_std",),
        "difficulty": ("smooth", "none"),
        "clip": ("fixed", "widen"),
    }.items()
    for value in values
}
VARIANTS: Mapping[str, Callable[..., Advantages]] = {
    **ESTIMATORS,
    "grpo, failures blamed alike": blame_alike,
    "papo, lambda 1": partial(ESTIMATORS["papo"], switches=AWPOSwitches(coefficient=1.0)),
    **_SWITCHED,
    "awpo, all_wrong reason, judge_check none": partial(
        ESTIMATORS["awpo"], switches=AWPOSwitches(all_wrong="reason", judge_check="none")
    ),
}
"""Estimators by name."""


@cache
def _player(env_id: str, preset: str) -> Player:
    """One a process: what was played once is remembered for all runs."""
    return Player(env_id, preset)


class _Seeds:
    """The draws of all seeds, each from its own generator, so that a seed's run does not depend on its neighbours'."""

    def __init__(self, *key: int, seeds: Sequence[int]) -> None:
        self._rngs = [np.random.default_rng([seed, *key]) for seed in seeds]

    def uniform(self, *shape: int) -> np.ndarray:
        return np.stack([rng.random(shape) for rng in self._rngs])

    def normal(self, *shape: int) -> np.ndarray:
        return np.stack([rng.normal(size=shape) for rng in self._rngs])

    def tasks(self) -> np.ndarray:
        return np.stack([rng.choice(NUM_TASKS, size=NUM_PROMPTS, replace=False) for rng in self._rngs])


def learn(
    env_id: str, preset: str, use: str, variant: str, setting: str, rate: float, seeds: Sequence[int], steps: int
) -> list[dict[str, object]]:
    """Train one table for each seed and return their figures; equal arguments give equal figures.

    Args:
        env_id: Environment.
        preset: Of its tasks.
        use: ``tuning`` or ``table``; they share no task and no draw.
        variant: Of `VARIANTS`.
        setting: Of `SETTINGS`.
        rate: Adam's learning rate.
        seeds: Draw tasks, choices and what befalls the judge.
        steps: Batches, each of 64 episodes and two updates.
    """
    world, player, first = SETTINGS[setting], _player(env_id, preset), FIRST_TASK[use]
    # The same draws for every variant: what differs is what the estimator makes of them.
    draws = _Seeds(first, zlib.crc32(setting.encode()), seeds=seeds)
    policies = Policies(len(seeds), player.num_rows, world.right_logit)
    optimizer = torch.optim.Adam(policies.parameters, lr=rate)
    estimator = VARIANTS[variant]
    references = _references(player, range(first, first + NUM_TASKS))
    curves, lines = [_held_out(player, policies, seeds, first, 0)], []
    for step in range(1, steps + 1):
        tasks_SP = draws.tasks()
        task_ids = [f"train/{task}" for task in np.repeat(tasks_SP.ravel() + first, NUM_GENERATIONS)]
        luck_SBL = draws.uniform(NUM_PROMPTS * NUM_GENERATIONS, MAX_CHOICES)
        played = player.play(task_ids, policies.logits(), luck_SBL)
        rewards = _rewards(played, world, draws)
        rewards["reference_P"] = _reference_scores(references, tasks_SP, world, step, seeds)
        got = [
            estimator(**{name: tensor[number] for name, tensor in rewards.items()}, epsilon=EPSILON)
            for number in range(len(seeds))
        ]
        clipped_S = _update(policies, optimizer, played, got)
        judged_SB = torch.where(rewards["reasoning_valid_PG"], rewards["reasoning_PG"], torch.nan).flatten(1)
        lines.append(
            {
                "train": played.success_B.reshape(len(seeds), -1).mean(axis=1),
                "judge": judged_SB.nanmean(dim=1).numpy(),
                "clipped": clipped_S,
                "judge_alone": _judge_alone(got),
            }
        )
        if step % EVALUATE_EVERY == 0:
            curves.append(_held_out(player, policies, seeds, first, step))
    elsewhere = _elsewhere(policies, world, seeds, first) if use == "table" and setting == "sparse" else {}
    means = {name: np.mean([line[name] for line in lines], axis=0) for name in lines[0]}
    means["judge_last"] = np.mean([line["judge"] for line in lines[-5:]], axis=0)
    return [
        {
            "seed": seed,
            "solved": [int(solved_S[number]) for solved_S in curves],
            "elsewhere": {name: [int(solved_S[number]) for solved_S in pair] for name, pair in elsewhere.items()},
            **{name: round(float(mean_S[number]), 4) for name, mean_S in means.items()},
        }
        for number, seed in enumerate(seeds)
    ]


def _judge_alone(got: Sequence[Advantages]) -> np.ndarray:
    """Each seed's share of groups that the outcome leaves without any advantage and the judge does not."""
    advantages_SPG = torch.stack([advantages.advantages_PG for advantages in got])
    judge_SPG = torch.stack([advantages.reasoning_part_PG for advantages in got])
    speaks_SP = (advantages_SPG != 0).any(dim=2) & ((advantages_SPG - judge_SPG).abs() <= 1e-9).all(dim=2)
    return speaks_SP.double().mean(dim=1).numpy()


def _held_out(player: Player, policies: Policies, seeds: Sequence[int], first: int, step: int) -> np.ndarray:
    """How many of NUM_TASKS * NUM_TRIES episodes on held-out tasks each seed's policy solves."""
    task_ids = [f"test/{first + task}" for task in range(NUM_TASKS) for _ in range(NUM_TRIES)]
    luck_SBL = _Seeds(first, 1, step, seeds=seeds).uniform(len(task_ids), MAX_CHOICES)
    played = player.play(task_ids * len(seeds), policies.logits(), luck_SBL)
    return played.success_B.reshape(len(seeds), -1).sum(axis=1)


def _elsewhere(policies: Policies, world: Setting, seeds: Sequence[int], first: int) -> dict[str, list[np.ndarray]]:
    """What each seed's policy solves of other suites: before training, and with the habits it has now."""
    solved = {}
    for name, where in ELSEWHERE.items():
        player = _player(*where)
        others = Policies(len(seeds), player.num_rows, world.right_logit)
        solved[name] = [_held_out(player, others, seeds, first, 0)]
        others.take_styles(policies)
        solved[name].append(_held_out(player, others, seeds, first, 0))
    return solved


def _references(player: Player, tasks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Rubric score and words of the reference solution of each training task."""
    certain_1RA = np.zeros((1, player.num_rows, len(ACTIONS)))
    certain_1RA[..., ACTIONS.index("right")] = 100.0
    played = player.play([f"train/{task}" for task in tasks], certain_1RA, np.full((1, len(tasks), MAX_CHOICES), 0.5))
    return played.rubric_B, played.words_B


def _judged(
    rubric: np.ndarray, words: np.ndarray, world: Setting, noise: np.ndarray, luck: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What the setting's judge makes of episodes: scores, and which of them there are."""
    paid = world.words_weight * np.minimum(words / NUM_WORDS, 1.0)
    scores = (1.0 - world.words_weight) * rubric + paid + world.noise * noise
    return scores.clip(0.0, 1.0), (luck >= world.missing_rate) & ~np.isnan(rubric)


def _reference_scores(
    references: tuple[np.ndarray, np.ndarray], tasks_SP: np.ndarray, world: Setting, step: int, seeds: Sequence[int]
) -> torch.Tensor:
    draws = _Seeds(2, step, seeds=seeds)
    rubric, words = (figures[tasks_SP] for figures in references)
    scores, is_there = _judged(rubric, words, world, draws.normal(NUM_PROMPTS), draws.uniform(NUM_PROMPTS))
    return torch.tensor(np.where(is_there, scores, np.nan))


def _rewards(played: Played, world: Setting, draws: _Seeds) -> dict[str, torch.Tensor]:
    """The arguments of estimators, with an axis for the seeds before the others."""
    num_episodes = NUM_PROMPTS * NUM_GENERATIONS
    noise_B, luck_B = draws.normal(num_episodes).ravel(), draws.uniform(num_episodes).ravel()
    scores_B, is_there_B = _judged(played.rubric_B, played.words_B, world, noise_B, luck_B)
    shape = (-1, NUM_PROMPTS, NUM_GENERATIONS)
    outcome_SPG = torch.tensor(played.success_B * (not world.hides_outcome)).reshape(shape)
    return {
        "outcome_PG": outcome_SPG,
        "outcome_range_P2": torch.tensor([0.0, 1.0], dtype=torch.float64).expand(*outcome_SPG.shape[:2], 2),
        "outcome_valid_PG": torch.ones_like(outcome_SPG, dtype=torch.bool),
        "reasoning_PG": torch.tensor(scores_B).reshape(shape),
        "reasoning_valid_PG": torch.tensor(is_there_B).reshape(shape),
    }


def _update(
    policies: Policies, optimizer: torch.optim.Optimizer, played: Played, got: Sequence[Advantages]
) -> np.ndarray:
    """Pass over the batches, one update each, and return each seed's share of decisions clipped after the first."""
    rows_N, allowed_NA = torch.tensor(played.rows_N), torch.tensor(played.allowed_NA)
    choices_N1, episode_N = torch.tensor(played.choices_N)[:, None], torch.tensor(played.episode_N)
    seed_N = episode_N // (NUM_PROMPTS * NUM_GENERATIONS)
    num_decisions_S = torch.bincount(seed_N, minlength=len(got))
    advantages_B = torch.cat([advantages.advantages_PG.flatten() for advantages in got]).float()
    # Each policy's loss is divided by its own number of decisions; a positive factor commutes with the clip.
    advantages_N = advantages_B[episode_N] / num_decisions_S[seed_N]
    epsilon_N = torch.tensor([advantages.clip_epsilon for advantages in got])[seed_N]
    old_logprobs_N = None
    for _ in range(NUM_PASSES):
        logprobs_N = policies.logprobs(rows_N, allowed_NA).gather(1, choices_N1)[:, 0]
        if old_logprobs_N is None:
            old_logprobs_N = logprobs_N.detach()
        loss, _ = clipped_surrogate(logprobs_N, old_logprobs_N, advantages_N, 1.0, epsilon_N)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ratio_N = torch.exp(logprobs_N.detach() - old_logprobs_N)
    is_clipped_N = torch.where(advantages_N > 0, ratio_N > 1 + epsilon_N, ratio_N < 1 - epsilon_N) & (advantages_N != 0)
    return (torch.bincount(seed_N, weights=is_clipped_N.double(), minlength=len(got)) / num_decisions_S).numpy()

"""Devices tasks: which kinds a preset has, how hard its stage is, and how a task is made from its number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from awpo_env.errors import UsageError
from awpo_env.types import Task

from . import actions, plans, questions, refusals, talks
from .stage import Difficulty, Stage

Request = Callable[[Stage], Iterator[None]]

DIFFICULTIES = {
    "easy": Difficulty(num_rooms=3, devices_per_room=1, num_scenes=1, obstacle_share=0.0),
    "medium": Difficulty(num_rooms=4, devices_per_room=2, num_scenes=2, obstacle_share=0.6),
    "hard": Difficulty(num_rooms=6, devices_per_room=3, num_scenes=3, obstacle_share=0.9),
}
PRESETS = tuple(DIFFICULTIES)

_SHORT: tuple[Request, ...] = (
    actions.switch,
    actions.dim,
    actions.shade,
    actions.lock_door,
    questions.reading,
    questions.status,
    plans.run_scene,
    plans.add_schedule,
    plans.remove_schedule,
)
_LONG: tuple[Request, ...] = (
    actions.bake,
    actions.warm,
    actions.wash,
    actions.open_door,
    actions.lights_off,
    plans.scene_blocked,
    plans.move_schedule,
    talks.missing,
    talks.ask_code,
    talks.wrong_code,
    talks.choose,
    talks.follow_up,
    talks.late_tool,
)
_REFUSED: tuple[Request, ...] = (
    refusals.not_found,
    refusals.no_tool,
    refusals.not_allowed,
    refusals.quiet_hours,
    refusals.beyond_limit,
    refusals.offline,
    refusals.low_battery,
    refusals.bad_code,
)
_CHAINED: tuple[Request, ...] = (
    actions.leave,
    questions.match_level,
    questions.warmest,
    plans.same_time,
)
ERRANDS = "errands"
"""The kind with several requests one after the other."""

_ERRANDS: tuple[Request, ...] = (
    *_SHORT,
    actions.bake,
    actions.warm,
    actions.wash,
    actions.lights_off,
    plans.move_schedule,
    talks.missing,
    talks.choose,
    questions.match_level,
    plans.same_time,
    refusals.not_found,
    refusals.beyond_limit,
    refusals.offline,
    refusals.low_battery,
)
NUM_ERRANDS = 3

_REQUESTS = {request.__name__: request for request in (*_SHORT, *_LONG, *_REFUSED, *_CHAINED)}
_KINDS_OF = {
    "easy": tuple(request.__name__ for request in (*_SHORT, talks.missing, refusals.not_found, refusals.offline)),
    "medium": tuple(request.__name__ for request in (*_SHORT, *_LONG, *_REFUSED)),
    "hard": (*(request.__name__ for request in (*_LONG, *_REFUSED, *_CHAINED)), ERRANDS),
}
KINDS = (*_REQUESTS, ERRANDS)

_TOOLS: tuple[str, ...] = tuple(
    tool["function"]["name"] for tool in json.loads(Path(__file__).with_name("tools.json").read_text(encoding="utf-8"))
)


def generate(split: str, index: int, preset: str = PRESETS[0]) -> Task:
    """Return task number `index` of a split ("train" or "test"); equal arguments give equal tasks.

    The kinds of a preset take turns. The residents of test tasks have names that are in no training task, though every
    first and every last name is.
    """
    if split not in ("train", "test") or preset not in PRESETS:
        expected = f"use train or test, and {PRESETS}"
        raise UsageError(f"no devices tasks for split {split!r}, preset {preset!r}; {expected}")
    if index < 0:
        raise UsageError(f"index {index} must be 0 or greater")
    task_id = f"{split}/{preset}/{index}"
    seed = int.from_bytes(hashlib.sha256(f"devices/{task_id}".encode()).digest()[:16], "big")
    stage = Stage(np.random.default_rng(seed), split, DIFFICULTIES[preset])
    kind = _KINDS_OF[preset][index % len(_KINDS_OF[preset])]
    stage.perform(stage.shuffled(_ERRANDS)[:NUM_ERRANDS] if kind == ERRANDS else [_REQUESTS[kind]])
    return stage.task(task_id, kind, _TOOLS)

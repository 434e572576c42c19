"""Filesystem tasks: which kinds a preset has, how hard its stage is, and how a task is made from its number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from awpo_env.errors import UsageError
from awpo_env.types import Task

from . import bulk, changes, questions, refusals, talks
from .scene import Difficulty, Scene

Request = Callable[[Scene], Iterator[None]]

DIFFICULTIES = {
    "easy": Difficulty(num_folders=2, files_per_folder=1, nested_share=0.0, namesake_share=0.0),
    "medium": Difficulty(num_folders=3, files_per_folder=2, nested_share=0.3, namesake_share=0.25),
    "hard": Difficulty(num_folders=5, files_per_folder=3, nested_share=0.6, namesake_share=0.6),
}
PRESETS = tuple(DIFFICULTIES)

_SHORT: tuple[Request, ...] = (
    changes.move,
    changes.copy,
    changes.rename,
    changes.remove,
    changes.change_value,
    changes.add_line,
    changes.create,
    questions.read_value,
    questions.search_value,
    questions.folder_size,
)
_LONG: tuple[Request, ...] = (
    changes.replace,
    questions.copy_and_ask,
    bulk.clean_up,
    bulk.pack,
    bulk.remove_largest,
    bulk.replace_everywhere,
    talks.missing,
    talks.choose,
    talks.follow_up,
    talks.late_tool,
    talks.make_room,
)
_REFUSED: tuple[Request, ...] = (
    refusals.not_found,
    refusals.no_tool,
    refusals.not_owner,
    refusals.read_only,
    refusals.name_taken,
    refusals.over_quota,
)
_CHAINED: tuple[Request, ...] = (
    changes.carry_value,
    changes.rename_by_content,
    bulk.remove_folder,
    bulk.sort_by_content,
    bulk.collect,
)
ERRANDS = "errands"
"""The kind with several requests one after the other."""

_ERRANDS: tuple[Request, ...] = (
    *_SHORT,
    *_CHAINED,
    bulk.clean_up,
    bulk.pack,
    bulk.remove_largest,
    talks.missing,
    talks.choose,
    refusals.not_found,
    refusals.not_owner,
    refusals.read_only,
    refusals.name_taken,
)
NUM_ERRANDS = 3

_REQUESTS = {request.__name__: request for request in (*_SHORT, *_LONG, *_REFUSED, *_CHAINED)}
_KINDS_OF = {
    "easy": tuple(request.__name__ for request in (*_SHORT, talks.missing, refusals.not_found, refusals.read_only)),
    "medium": tuple(request.__name__ for request in (*_SHORT, *_LONG, *_REFUSED)),
    "hard": (*(request.__name__ for request in (*_LONG, *_REFUSED, *_CHAINED)), ERRANDS),
}
KINDS = (*_REQUESTS, ERRANDS)

_TOOLS: tuple[str, ...] = tuple(
    tool["function"]["name"] for tool in json.loads(Path(__file__).with_name("tools.json").read_text(encoding="utf-8"))
)


def generate(split: str, index: int, preset: str = PRESETS[0]) -> Task:
    """Return task number `index` of a split ("train" or "test"); equal arguments give equal tasks.

    The kinds of a preset take turns. The users of test tasks have names that are in no training task, though every
    first and every last name is.
    """
    if split not in ("train", "test") or preset not in PRESETS:
        raise UsageError(
            f"no filesystem tasks for split {split!r}, preset {preset!r}; use train or test, and {PRESETS}"
        )
    if index < 0:
        raise UsageError(f"index {index} must be 0 or greater")
    task_id = f"{split}/{preset}/{index}"
    seed = int.from_bytes(hashlib.sha256(f"filesystem/{task_id}".encode()).digest()[:16], "big")
    scene = Scene(np.random.default_rng(seed), split, DIFFICULTIES[preset])
    kind = _KINDS_OF[preset][index % len(_KINDS_OF[preset])]
    scene.perform(scene.shuffled(_ERRANDS)[:NUM_ERRANDS] if kind == ERRANDS else [_REQUESTS[kind]])
    return scene.task(task_id, kind, _TOOLS)

"""Generate tasks without end: a pure function of split, index and preset."""

from __future__ import annotations

import hashlib

import numpy as np
from awpo_tools.retail import quickstart
from awpo_tools.retail.catalogue import SPLITS
from awpo_tools.retail.script import Script
from awpo_tools.retail.world import World

from awpo_env.errors import UsageError
from awpo_env.types import Task

PRESETS: tuple[str, ...] = ("quickstart",)
KINDS: tuple[str, ...] = tuple(quickstart.KINDS)


def generate(split: str, index: int, preset: str) -> Task:
    """Return one task; equal arguments give equal tasks.

    The kinds take turns, so any run of consecutive indices has about equal shares of them.

    Args:
        split: ``train`` or ``test``; the two share no person.
        index: 0 and up, without limit.
        preset: One of `PRESETS`.

    Raises:
        UsageError: There is no such split, preset or index.
    """
    if split not in SPLITS:
        raise UsageError(f"split {split!r} must be one of {SPLITS}")
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r} must be one of {PRESETS}")
    if index < 0:
        raise UsageError(f"index {index} must be 0 or greater")
    task_id = f"{split}/{preset}/{index}"
    seed = int.from_bytes(hashlib.sha256(f"retail/{task_id}".encode()).digest()[:16], "big")
    world, script = World(np.random.default_rng(seed), split), Script()
    kinds = quickstart.KINDS
    kind = tuple(kinds)[index % len(kinds)]
    kinds[kind](world, script)
    return Task(task_id, kind, world.tables, tuple(script.turns), quickstart.TOOLS, quickstart.POLICY)

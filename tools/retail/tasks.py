"""Generate tasks without end: a pure function of split, index and preset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from awpo_tools.retail import actions, compounds, questions, quickstart, refusals
from awpo_tools.retail.catalogue import SPLITS
from awpo_tools.retail.desk import Desk
from awpo_tools.retail.script import Script
from awpo_tools.retail.world import World

from awpo_env.errors import UsageError
from awpo_env.types import Task

PRESETS: tuple[str, ...] = ("full", "quickstart")

_FULL: dict[str, compounds.Request] = {
    request.__name__: request
    for request in (
        questions.order_status,
        questions.track,
        questions.price,
        questions.stock,
        questions.store,
        actions.cancel,
        actions.address,
        actions.refund,
        actions.exchange,
        actions.coupon,
        actions.email,
        actions.newsletter,
        actions.handover,
        refusals.decline,
        compounds.choose,
        compounds.recover,
        compounds.late_tool,
        compounds.parallel,
        compounds.errands,
    )
}
KINDS: tuple[str, ...] = tuple({**_FULL, **quickstart.KINDS})

_TOOLS: tuple[str, ...] = tuple(
    tool["function"]["name"] for tool in json.loads(Path(__file__).with_name("tools.json").read_text(encoding="utf-8"))
)
_ALWAYS_SHOWN = frozenset({"find_customer", "list_orders", "get_order", "decline_request", "transfer_to_human"})


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
    rng = np.random.default_rng(seed)
    return (_quickstart if preset == "quickstart" else _full)(rng, split, task_id, index)


def _quickstart(rng: np.random.Generator, split: str, task_id: str, index: int) -> Task:
    world, kind, script = World(rng, split, order_digits=2), _in_turn(quickstart.KINDS, index), Script()
    quickstart.KINDS[kind](world, script)
    return Task(task_id, kind, world.tables, tuple(script.turns), quickstart.TOOLS, quickstart.POLICY)


def _full(rng: np.random.Generator, split: str, task_id: str, index: int) -> Task:
    """A task of the full preset, with the tools it needs among some it does not need."""
    world, kind = World(rng, split), _in_turn(_FULL, index)
    desk = Desk(world, wrong_email=kind == "recover")
    _FULL[kind](desk)
    later = {name for turn in desk.turns for name in turn.new_tools}
    shown = tuple(
        name
        for name in _TOOLS
        if name not in later and (name in desk.used_tools or name in _ALWAYS_SHOWN or world.below(2))
    )
    return Task(task_id, kind, world.tables, tuple(desk.turns), shown)


def _in_turn(kinds: Mapping[str, object], index: int) -> str:
    return tuple(kinds)[index % len(kinds)]

"""AWPO's parts as settings: each chosen by name, each can be turned off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

ALL_RIGHT_RULES = ("reason", "outcome_only", "skip")
"""What a group whose outcomes are all the best attainable may do."""

ALL_WRONG_RULES = (*ALL_RIGHT_RULES, "blame")
"""What a group whose outcomes are all the least attainable may do."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "gate": ("std_ratio_mix", "std_ratio_reason", "hard", "none"),
    "reasoning_scale": ("group_std", "fixed"),
    "all_right": ALL_RIGHT_RULES,
    "all_wrong": ALL_WRONG_RULES,
    "judge_check": ("reference", "none"),
    "difficulty": ("interval", "smooth", "none"),
    "clip": ("tighten", "fixed", "widen"),
}
"""The names each switch may have."""

POSITIVE = ("reasoning_unit", "difficulty_boost")
"""Switches that are numbers above 0."""

NOT_NEGATIVE = ("coefficient", "outcome_weight", "reasoning_floor", "clip_strength")
"""Switches that are numbers of at least 0."""


@dataclass(frozen=True, slots=True)
class AWPOSwitches:
    """AWPO's parts. `ALL_OFF` is GRPO, bit for bit.

    Attributes:
        gate: ``std_ratio_mix``, ``std_ratio_reason``, ``hard`` or ``none`` (see `parts.GATES`).
        coefficient: lambda >= 0, the size of the reasoning reward beside an outcome on [0, 1].
        outcome_weight: >= 0, what outcomes are multiplied by before anything else; 0 trains on the judge alone.
        reasoning_floor: >= 0. A group whose judge scores spread less than this has no reasoning signal: dividing by a
            tiny spread would turn judge noise into unit-size advantages. 0 is none.
        reasoning_scale: ``group_std`` (unit size in every group) or ``fixed`` (small disagreements stay small pushes).
        reasoning_unit: Judge points, above 0, that make an advantage of 1 under ``fixed``.
        all_right: What a group does whose outcomes are all the best attainable: ``reason`` (the gate decides),
            ``outcome_only`` (the judge is not heard) or ``skip`` (the group is left out of the loss).
        all_wrong: The same for a group whose outcomes are all the least attainable, or ``blame``: as ``reason``, but no
            advantage is above 0, and with the check below the task's own solution counts as one of the group. Who fell
            shorter than the others is held back most; nobody is encouraged to fail better.
        judge_check: When the judge is heard in a group whose outcomes are all the least attainable: ``reference``, if
            it puts none of the group above the task's own solution (else the group is skipped), or ``none``, always.
        difficulty: ``interval``, ``smooth`` or ``none`` (see `parts.DIFFICULTIES`).
        difficulty_low: Lower end of the medium band of the group's mean outcome, on [0, 1].
        difficulty_high: Upper end of that band.
        difficulty_boost: Weight, above 0, of a group of medium difficulty; the easiest and the hardest have 1.
        clip: ``tighten``, ``fixed`` or ``widen`` (see `parts.CLIPS`).
        clip_strength: eta >= 0, how far the clip radius follows the reliance on reasoning.

    Raises:
        ValueError: A name is unknown, or a number impossible.
    """

    gate: str = "std_ratio_mix"
    coefficient: float = 0.5
    outcome_weight: float = 1.0
    reasoning_floor: float = 0.02
    reasoning_scale: str = "fixed"
    reasoning_unit: float = 0.25
    all_right: str = "skip"
    all_wrong: str = "blame"
    judge_check: str = "reference"
    difficulty: str = "interval"
    difficulty_low: float = 0.25
    difficulty_high: float = 0.75
    difficulty_boost: float = 1.5
    clip: str = "tighten"
    clip_strength: float = 1.0

    def __post_init__(self) -> None:
        wrong = [
            f"{name} is {getattr(self, name)!r}, expected one of {names}"
            for name, names in CHOICES.items()
            if getattr(self, name) not in names
        ]
        wrong += [
            f"{name} is {getattr(self, name)}, expected a finite number above 0"
            for name in POSITIVE
            if not 0 < getattr(self, name) < math.inf
        ]
        wrong += [
            f"{name} is {getattr(self, name)}, expected a finite number, not negative"
            for name in NOT_NEGATIVE
            if not 0 <= getattr(self, name) < math.inf
        ]
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def checks_judge(self) -> bool:
        """Whether what the judge thinks of the task's own solution decides anything."""
        hears = self.gate != "none" and self.all_wrong in ("reason", "blame")
        return hears and self.judge_check == "reference"


DEFAULTS = AWPOSwitches()
"""The settings of AWPO unless others are named."""

ALL_OFF = AWPOSwitches(
    gate="none", all_right="reason", all_wrong="reason", judge_check="none", difficulty="none", clip="fixed"
)
"""The switches that make `awpo` equal `grpo`."""

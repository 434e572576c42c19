"""Stages of reward integration: weights and gate that change at a given step, or when a metric passes a threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from awpo_agent.advantages.parts import GATES
from awpo_agent.advantages.switches import AWPOSwitches


@dataclass(frozen=True, slots=True)
class Stage:
    """When a stage begins, and what changes then; what is None stays as it was. Tag: ours.

    Stages begin in order, each at a step or once a metric of a finished step reaches a threshold, and never end.

    Attributes:
        from_step: The first step of the stage, counted from 0.
        metric: Instead: the metric of ``metrics.jsonl`` that is watched.
        at_least: The stage begins after a step whose metric is this or more.
        at_most: Instead: this or less.
        outcome_weight: New weight of the outcome reward.
        coefficient: New size of the reasoning reward.
        gate: New gate.
    """

    from_step: int | None = None
    metric: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    outcome_weight: float | None = None
    coefficient: float | None = None
    gate: str | None = None

    def begins(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Whether the stage holds for the step to come.

        Args:
            step: The step to come.
            metrics: Of the step before; a metric that does not exist there reaches no threshold.
        """
        if self.from_step is not None:
            return step >= self.from_step
        if self.metric not in metrics:
            return False
        value = metrics[self.metric]
        return value >= self.at_least if self.at_least is not None else value <= self.at_most

    def problems(self) -> list[str]:
        """What is impossible about this stage, one sentence each."""
        problems = []
        if (self.from_step is None) == (self.metric is None):
            problems.append("a stage needs either from_step or metric")
        if (self.metric is not None) != ((self.at_least is None) != (self.at_most is None)):
            problems.append("a stage that watches a metric, and no other, needs either at_least or at_most")
        if self.from_step is not None and self.from_step < 0:
            problems.append(f"from_step of a stage is {self.from_step}, expected at least 0")
        problems += [
            f"{name} of a stage is nan, expected a number"
            for name in ("at_least", "at_most")
            if (threshold := getattr(self, name)) is not None and math.isnan(threshold)
        ]
        changes = self.changes()
        if not changes:
            problems.append("a stage changes nothing; name outcome_weight, coefficient or gate")
        problems += [
            f"{name} of a stage is {changes[name]}, expected a finite number, not negative"
            for name in ("outcome_weight", "coefficient")
            if name in changes and not 0 <= changes[name] < float("inf")
        ]
        if self.gate is not None and self.gate not in GATES:
            problems.append(f"gate of a stage is {self.gate!r}, expected one of {sorted(GATES)}")
        return problems

    def changes(self) -> dict[str, float | str]:
        """The switches that get new values."""
        named = {name: getattr(self, name) for name in ("outcome_weight", "coefficient", "gate")}
        return {name: value for name, value in named.items() if value is not None}


def count_begun(stages: Sequence[Stage], begun: int, step: int, metrics: Mapping[str, float]) -> int:
    """Return how many stages have begun before the step to come.

    Args:
        stages: In their order.
        begun: How many had before.
        step: The step to come.
        metrics: Of the step before, the same on all processes.
    """
    while begun < len(stages) and stages[begun].begins(step, metrics):
        begun += 1
    return begun


def staged(switches: AWPOSwitches, stages: Sequence[Stage], begun: int) -> AWPOSwitches:
    """Return the switches that hold once the first `begun` stages have begun; a later stage overrides an earlier."""
    for stage in stages[:begun]:
        switches = replace(switches, **stage.changes())
    return switches

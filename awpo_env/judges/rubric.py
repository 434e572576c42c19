"""The offline judge: reads reasoning against what was then done, and pays only for progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from awpo_env.judges.criteria import agrees, diagnosed, focused, grounded, outlook
from awpo_env.judges.progress import Milestone, Progress, along_reference, from_transcript
from awpo_env.judges.reading import Episode, Step, Text, leaves, read_episode
from awpo_env.types import EpisodeStatus, Score, Transcript

WEIGHTS: Mapping[str, float] = {"agrees": 0.6, "outlook": 0.2, "diagnosed": 0.4}
"""What the parts of a step's reasoning count, among those that apply. A plan that is then carried out is the core;
after an error, what went wrong matters nearly as much; naming what is still missing is easily faked, so it is least."""

SILENT = 0.35
"""Worth of a milestone reached without reasoning. Above 0, so that doing the work always pays; far below 1, since this
is a judge of reasoning and the outcome already pays for the work."""

UNSERVED = 0.6
"""Worth of milestones while no user turn was served. Below 1, so that stopping short never comes close to finishing."""

WASTE = 0.5
"""How much a needless call counts against a milestone: one too many in an episode of five costs a tenth."""


class RubricJudge:
    """Scores the reasoning of an episode from 0 to 1 by fixed rules, without a model. Source: ours.

    The score is ``economy * closing * sum(share * (0.35 + 0.65 * reasoning)) / milestones``, where

    * a milestone is a call of the reference solution (in its order, with its arguments; a wrong argument leaves at most
      0.4 of it) or the message that ends a user turn (non-empty, telling what the reference tells, worth the share of
      the work done before it). No milestone, no pay: the best reasoning about nothing done scores 0;
    * reasoning is a product for the step that reached the milestone: `grounded` (the values it names come from the
      conversation, the tools' schemas or the reference), `focused` (it neither lists everything nor goes on and on),
      and the weighted mean of `agrees` (it names the tool and the values of the call it comes with), `outlook` (it
      names something that is still missing) and `diagnosed` (after an error: what was wrong, and not the same again);
    * closing grows from 0.6 to 1 with the user turns that were served, economy falls with calls that served nothing.

    It reads words, not sense: an unusual but right way to the goal scores less than the reference's, a negation reads
    like its opposite, and ids in the right place look like thought. Text that praises itself or orders a score counts
    as the words it is made of. It never sees the outcome, the backend or its state. An episode whose environment broke
    has no score.

    Args:
        sees_reference: Whether progress is measured along the task's reference solution. Without it, progress is what
            the user gave or asked for by name and a successful call took up: weaker, since a call on a wrong object
            counts, and a task that ends after its only call by design cannot be told from one broken off with a
            plausible message.

    >>> RubricJudge().score([])
    []
    """

    def __init__(self, sees_reference: bool = True) -> None:
        self.sees_reference = sees_reference

    def score(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """See `Judge.score`; each score is in [0, 1] and depends on its own transcript only."""
        return [self._score(transcript) for transcript in transcripts]

    def _score(self, transcript: Transcript) -> Score:
        if transcript.status is EpisodeStatus.ENVIRONMENT_ERROR:
            return Score.missing("the environment broke, so the reasoning met something that was not its fault")
        episode = read_episode(transcript)
        progress = along_reference(episode, transcript.task) if self.sees_reference else from_transcript(episode)
        return combine(progress, judge_steps(episode, progress))


@dataclass(frozen=True, slots=True)
class StepMarks:
    """The criteria of one step, each in [0, 1]; None where a criterion says nothing about it."""

    agrees: float
    outlook: float | None
    diagnosed: float | None
    grounded: float
    focused: float

    @property
    def reasoning(self) -> float:
        """Quality of the step's reasoning, in [0, 1]."""
        marks = {name: getattr(self, name) for name in WEIGHTS}
        weight = sum(WEIGHTS[name] for name, mark in marks.items() if mark is not None)
        mean = sum(WEIGHTS[name] * mark for name, mark in marks.items() if mark is not None) / weight
        return self.grounded * self.focused * mean


def judge_steps(episode: Episode, progress: Progress) -> list[StepMarks]:
    """Mark the reasoning of every step of an episode."""
    marks = []
    for index, step in enumerate(episode.steps):
        before = episode.steps[index - 1] if index else None
        failed = tuple(call for call in before.calls if call.is_error) if before else ()
        marks.append(
            StepMarks(
                agrees=agrees(step, _done(episode.steps[: index + 1], step.turn)),
                outlook=outlook(step, progress.missing[index]),
                diagnosed=diagnosed(step, failed),
                grounded=grounded(step, progress.derived),
                focused=focused(step, _around(episode.steps[max(0, index - 1) : index + 2]), episode.tools),
            )
        )
    return marks


def combine(progress: Progress, marks: Sequence[StepMarks]) -> Score:
    """Put progress and reasoning together; the formula of `RubricJudge`."""
    milestones = (*progress.work, *progress.endings)
    num_milestones = max(1, len(milestones))
    done = sum(milestone.share for milestone in milestones)
    paid = sum(_pay(milestone, marks) for milestone in milestones)
    served = sum(ending.share for ending in progress.endings) / max(1, len(progress.endings))
    closing = UNSERVED + (1.0 - UNSERVED) * served
    economy = 1.0 / (1.0 + WASTE * progress.num_wasted / num_milestones)
    parts = {"progress": done / num_milestones, "served": served, "economy": economy}
    for name in ("reasoning", "agrees", "outlook", "diagnosed", "grounded", "focused"):
        values = [value for mark in marks if (value := getattr(mark, name)) is not None]
        if values:
            parts[name] = sum(values) / len(values)
    reason = (
        f"{done:.1f} of {len(milestones)} milestones, {served:.2f} of the user turns served, "
        f"{progress.num_wasted} needless calls; reasoning {parts.get('reasoning', 0.0):.2f}"
    )
    return Score(min(1.0, economy * closing * paid / num_milestones), reason, parts)


def _pay(milestone: Milestone, marks: Sequence[StepMarks]) -> float:
    if milestone.step is None:
        return 0.0
    return milestone.share * (SILENT + (1.0 - SILENT) * marks[milestone.step].reasoning)


def _done(steps: Sequence[Step], turn: int) -> Text:
    """Everything called and returned in this user turn."""
    calls = [call for step in steps if step.turn == turn for call in step.calls]
    return Text(
        values=frozenset().union(*(call.result.values for call in calls)),
        tokens=frozenset(call.name.lower() for call in calls),
        stems=frozenset().union(*(call.result.stems for call in calls)),
    )


def _around(steps: Sequence[Step]) -> frozenset[str]:
    """Values acted on or told, and tools used, in neighbouring steps."""
    calls = [call for step in steps for call in step.calls]
    values = (leaf.values for call in calls for leaf in leaves(call.arguments))
    return frozenset(call.name.lower() for call in calls).union(*values, *(step.content.values for step in steps))

"""A judge that says what a test tells it to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from awpo_env.errors import UsageError
from awpo_env.types import Score, Transcript


class ScriptedJudge:
    """Answers from a function, or from a list of scores handed out in the order they are asked for.

    Args:
        script: ``transcript -> score``, or the scores themselves. A float in [0, 1] stands for a `Score` of that value.

    Attributes:
        seen: Every transcript this judge was asked about, in order.

    >>> judge = ScriptedJudge([0.5, Score.missing("the endpoint timed out")])
    """

    def __init__(self, script: Callable[[Transcript], Score | float] | Iterable[Score | float]) -> None:
        self._script = script if callable(script) else None
        self._scores = iter(()) if callable(script) else iter(script)
        self.seen: list[Transcript] = []

    def score(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """See `Judge.score`.

        Raises:
            UsageError: The list of scores is used up.
        """
        return [self._answer(transcript) for transcript in transcripts]

    def _answer(self, transcript: Transcript) -> Score:
        self.seen.append(transcript)
        answer = self._script(transcript) if self._script is not None else next(self._scores, None)
        if answer is None:
            raise UsageError(f"the script holds {len(self.seen) - 1} scores; expected one for every transcript")
        return answer if isinstance(answer, Score) else Score(float(answer))

"""What every judge is: transcripts in, one score each out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from awpo_env.types import Score, Transcript


class Judge(Protocol):
    """Scores the reasoning of episodes."""

    def score(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """Return one score for each transcript, in their order.

        A judge that cannot score a transcript answers `Score.missing` with the reason. An exception is a bug of the
        judge, and nobody catches it.

        Args:
            transcripts: Episodes, finished or interrupted; any number, from any tasks.
        """
        ...

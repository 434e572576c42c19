"""What a run leaves behind: metrics.jsonl and episodes.jsonl, cut back to the checkpoint when a run is resumed."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from awpo_agent.checkpoint import make_durable
from awpo_env.errors import UsageError, did_you_mean
from awpo_env.types import JSON

_FILES = ("metrics.jsonl", "episodes.jsonl")

_log = logging.getLogger(__name__)


class RunRecorder:
    """Appends one JSON line a step and one an episode.

    Args:
        folder: The run folder.
        first_step: Lines of this step and later ones are dropped; they are written again. 0 starts afresh.

    Raises:
        UsageError: A line of an earlier step is damaged.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in _FILES]
        kept = [_lines_before(path, first_step) for path in paths]  # of both, before either is touched
        for path, lines in zip(paths, kept, strict=True):
            _cut_back(path, lines)
        make_durable(folder)
        self._metrics, self._episodes = (path.open("a", encoding="utf-8") for path in paths)

    def write(self, metrics: Mapping[str, JSON], episodes: Iterable[Mapping[str, JSON]]) -> None:
        """Append a step and its episodes, and return once they are on the disk, so before any checkpoint after them."""
        for episode in episodes:
            self._episodes.write(json.dumps(episode, ensure_ascii=False) + "\n")
        self._metrics.write(json.dumps(metrics) + "\n")
        for file in (self._episodes, self._metrics):
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close both files."""
        self._metrics.close()
        self._episodes.close()


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that accelerate does not know or cannot use; it would leave that one out without a word.

    Args:
        names: As in `AWPOConfig.report_to`.

    Raises:
        UsageError: There is one.
    """
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = sorted(LOGGER_TYPE_TO_CLASS)
            raise UsageError(f"report_to names {name!r}, expected some of {known}{did_you_mean(name, known)}")
        if name not in [tracker.value for tracker in get_available_trackers()]:
            raise UsageError(f"report_to names {name!r}, which is not installed; run: pip install {name}")


def _lines_before(path: Path, first_step: int) -> list[bytes]:
    # Steps never decrease from line to line, and all lines of a step are on the disk before a checkpoint follows it. So
    # what a kill or a power failure damages stands behind the lines that are kept, and is dropped: without a word after
    # a line of a step that runs again; with a warning right behind the last step that does not, or where the file
    # begins, as nothing proves it to be of a later step. Damage between lines that are kept, or in place of whole steps
    # that should be there, has another cause and loses something for good: the user decides.
    if first_step == 0 or not path.exists():
        return []
    lines = path.read_bytes().splitlines()  # unlike those of a text, they do not end at U+2028 in a message
    steps = [_step_of(line) for line in lines]
    kept = [index for index, step in enumerate(steps) if step is not None and step < first_step]
    end = kept[-1] + 1 if kept else 0
    doubtful = len(list(itertools.takewhile(lambda step: step is None, steps[end:])))
    if None in steps[:end] or (doubtful and end and steps[end - 1] < first_step - 1):
        raise UsageError(
            f"line {steps.index(None) + 1} of {str(path)!r} is damaged, expected a JSON object with a step before "
            f"{first_step}; restore the line from a copy, or delete it to go on without it"
        )
    if doubtful:
        _log.warning(
            "damaged lines of %r dropped: %d from line %d on, taken for lines of steps from %d on, which run again",
            *(str(path), doubtful, end + 1, first_step),
        )
    return [lines[index] for index in kept]


def _step_of(line: bytes) -> int | None:
    """Return the step of a line, None if the line is damaged."""
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    step = record.get("step") if isinstance(record, dict) else None
    return step if type(step) is int and step >= 0 else None


def _cut_back(path: Path, kept: Sequence[bytes]) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(b"".join(line + b"\n" for line in kept))
    make_durable(unfinished)
    unfinished.replace(path)

"""Folders that appear whole or not at all, and checkpoints from which a run goes on as if it had never stopped."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from accelerate import PartialState

from awpo_env.errors import UsageError
from awpo_env.types import JSON

_STATE_FILE = "training_state.json"

_log = logging.getLogger(__name__)


def write_folder(folder: Path, write: Callable[[Path], object], seal: Callable[[Path], object] | None = None) -> None:
    """Let `write` fill a temporary folder beside `folder`, then put it in place in one step; every process calls this.

    Args:
        folder: Where it ends up; an older folder of that name is replaced.
        write: Writes into the folder it is given, in every process.
        seal: Called with the folder in the main process once all have written.

    Raises:
        OSError: Writing failed, for example because the disk is full; `folder` is as it was before, or the new one
            if all that failed was to make its name durable.
    """
    processes = PartialState()
    unfinished = folder.with_name(f".{folder.name}.part")
    try:
        if processes.is_main_process:
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
        processes.wait_for_everyone()
        write(unfinished)
        processes.wait_for_everyone()
        if processes.is_main_process:
            if seal is not None:
                seal(unfinished)
            # Whoever wrote them, and before the name: one that outlived its contents would stand for a torn folder.
            for path in [*unfinished.rglob("*"), unfinished]:
                make_durable(path)
            _put_in_place(unfinished, folder)
    except BaseException:
        if processes.is_main_process:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise
    processes.wait_for_everyone()


def _put_in_place(unfinished: Path, folder: Path) -> None:
    retired = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(retired, ignore_errors=True)
    try:
        if folder.exists():
            folder.rename(retired)
        unfinished.rename(folder)
    except BaseException:
        if retired.exists() and not folder.exists():
            retired.rename(folder)
        raise
    make_durable(folder.parent)  # before the older folder is gone for good
    shutil.rmtree(retired, ignore_errors=True)


def make_durable(path: Path) -> None:
    """Return once the contents of a file, or the names in a folder, would outlive a power failure.

    Raises:
        OSError: The disk does not take them.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some file systems know no such thing for folders
            raise
    finally:
        os.close(descriptor)


def save_checkpoint(folder: Path, write: Callable[[Path], object], state: Mapping[str, JSON]) -> None:
    """Write a checkpoint; every process calls this.

    Args:
        folder: Where it ends up.
        write: Writes weights, tokenizer and optimizer into the folder it is given, in every process.
        state: What else a resumed run has to know: `step`, `stages_begun` and how the `optimizer` was kept. The sizes
            of all files are kept beside it, so that a checkpoint is known to be torn where a disk lost contents after
            all, or a copy was cut off.
    """

    def seal(unfinished: Path) -> None:
        record = {**state, "files": _sizes(unfinished)}
        (unfinished / _STATE_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    write_folder(folder, write, seal)


def read_state(folder: Path) -> dict[str, JSON]:
    """Return what `save_checkpoint` was told to keep.

    Raises:
        UsageError: The folder is no checkpoint of a training run or cannot be read, its state is damaged, or files of
            it are missing or cut off.
    """
    try:
        text, sizes = (folder / _STATE_FILE).read_bytes(), _sizes(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{str(folder)!r} is no checkpoint of a training run; expected a folder with {_STATE_FILE}"
        ) from None
    except OSError as error:
        raise UsageError(f"checkpoint {str(folder)!r} cannot be read ({error}); mend that or take another") from None
    try:
        state = json.loads(text.decode("utf-8"))
        _check(state)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{_STATE_FILE} of {str(folder)!r} is damaged ({error}); take an older checkpoint") from None
    if torn := sorted(name for name, size in state.pop("files").items() if sizes.get(name) != size):
        raise UsageError(f"checkpoint {str(folder)!r} is torn: {torn[0]} is missing or cut off; take an older one")
    return state


def _check(state: JSON) -> None:
    if not isinstance(state, dict):
        raise ValueError(f"it holds {state!r:.40}, expected an object")
    for name in ("step", "stages_begun"):
        if not _is_count(state.get(name)):
            raise ValueError(f"{name} is {state.get(name)!r:.40}, expected a whole number from 0 on")
    if not isinstance(state.get("optimizer"), str):
        raise ValueError(f"optimizer is {state.get('optimizer')!r:.40}, expected how it was kept")
    files = state.get("files")
    if not isinstance(files, dict) or not all(map(_is_count, files.values())):
        raise ValueError(f"files is {files!r:.40}, expected the size of each file by its name")


def _is_count(value: JSON) -> bool:
    return type(value) is int and value >= 0  # a bool is an int to isinstance


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != _STATE_FILE)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def newest_checkpoint(folder: Path) -> Path:
    """Return the checkpoint of the highest step in `folder`; one that is torn is named in a warning and skipped.

    Raises:
        UsageError: There is none.
    """
    for found in reversed(_checkpoints(folder)):
        try:
            read_state(found)
        except UsageError as error:
            _log.warning("%s", error)
        else:
            return found
    raise UsageError(f"there is no checkpoint in {str(folder)!r}; a run leaves them every save_steps and at its end")


def set_aside(folder: Path) -> None:
    """Rename ``checkpoints`` of an earlier run to ``checkpoints.old``, in place of what an earlier one left there."""
    if folder.exists():
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)


def set_aside_newer(folder: Path, step: int) -> None:
    """Move checkpoints after a step to ``checkpoints.old``: a run that goes on from there never made them."""
    newer = [path for path in _checkpoints(folder) if _step_of(path) > step]
    if newer:
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        old.mkdir()
        for path in newer:
            path.rename(old / path.name)


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and what killed processes left behind."""
    for old in [*_checkpoints(folder)[:-keep], *folder.glob(".checkpoint-*.part"), *folder.glob(".checkpoint-*.old")]:
        shutil.rmtree(old)


def _checkpoints(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(found, key=_step_of)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))

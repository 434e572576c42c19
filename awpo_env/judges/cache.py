"""Replies of judge models on disk, so that none is bought twice; safe for several processes and for kill -9."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from awpo_env.errors import UsageError

# The standard library's SQLite instead of a cache library: the usual one unpickles what lies on disk, and a file of
# replies must never be able to run code.
_FILE = "replies.sqlite"
_OPENING_TIMEOUT_S = 60.0
_BUSY_TIMEOUT_MS = 2000  # a reply that cannot be kept is worth less than the replies that wait meanwhile
_RECOUNT_EVERY = 1 / 16  # of the limit: how much this process writes before it looks at what others wrote
_SHRINK_TO = 0.9
_SIZE_OF_ROW = 200  # bytes beside the texts: keys, index, page overhead
_SUM = "SELECT COALESCE(SUM(num_bytes), 0) FROM replies"
_CREATE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, reply TEXT NOT NULL, stored_at REAL NOT NULL, num_bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS replies_by_age ON replies (stored_at, num_bytes);
"""

_log = logging.getLogger(__name__)


class ReplyCache:
    """A bounded map from content digests to replies, in one SQLite file.

    A reply is on disk when `put` returns. When the replies outgrow the limit, the oldest go; several processes together
    may outgrow it by a sixteenth each. A file that cannot be read or written later on is told once, and is no reason
    to lose a reply. The folder has to be on a local disk: SQLite's write-ahead log does not work over network file
    systems.

    Args:
        folder: Made if it is missing, readable by its owner only.
        max_bytes: Most bytes of replies kept.

    Raises:
        UsageError: The folder cannot be used.
    """

    def __init__(self, folder: str | Path, max_bytes: int) -> None:
        self._path = Path(folder) / _FILE
        self._max_bytes = max_bytes
        self._has_failed = False
        try:
            self._database = self._open()
            self._recount()
            self._wait_for_locks(_BUSY_TIMEOUT_MS)
        except (sqlite3.Error, OSError) as error:
            raise UsageError(
                f"replies cannot be kept in {str(self._path)!r}: {error}; remove that file, or name another cache_dir"
            ) from None

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = sqlite3.connect(
            self._path, timeout=_OPENING_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        # A log that is not flushed on every commit: what was committed outlives the process, whatever ends it.
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.executescript(_CREATE)
        return database

    def get(self, key: str) -> str | None:
        """Return the reply stored under a key, or None."""
        try:
            row = self._database.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._tell("read", error)
            return None
        return row[0] if row else None

    def put(self, key: str, reply: str) -> None:
        """Store a reply, replacing an earlier one."""
        num_bytes = len(key) + len(reply.encode("utf-8", "replace")) + _SIZE_OF_ROW
        try:
            self._database.execute(
                "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", (key, reply, time.time(), num_bytes)
            )
            self._num_new_bytes += num_bytes
            too_many = self._num_bytes + self._num_new_bytes > self._max_bytes
            if too_many or self._num_new_bytes > _RECOUNT_EVERY * self._max_bytes:
                self._shrink()
        except sqlite3.Error as error:
            self._tell("write", error)
            self._wait_for_locks(0)  # once is enough: everybody else waits meanwhile
        else:
            if self._busy_timeout_ms != _BUSY_TIMEOUT_MS:
                self._wait_for_locks(_BUSY_TIMEOUT_MS)

    def __len__(self) -> int:
        return self._database.execute("SELECT COUNT(*) FROM replies").fetchone()[0]

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._database.close()

    def _shrink(self) -> None:
        """Drop the oldest replies; the size is counted anew, since other processes write too."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._recount()
            while self._num_bytes > _SHRINK_TO * self._max_bytes:
                key, num_bytes = self._database.execute(
                    "SELECT key, num_bytes FROM replies ORDER BY stored_at, key LIMIT 1"
                ).fetchone()
                self._database.execute("DELETE FROM replies WHERE key = ?", (key,))
                self._num_bytes -= num_bytes

    def _recount(self) -> None:
        (self._num_bytes,) = self._database.execute(_SUM).fetchone()
        self._num_new_bytes = 0

    def _wait_for_locks(self, timeout_ms: int) -> None:
        self._busy_timeout_ms = timeout_ms
        with suppress(sqlite3.Error):  # a broken file is told by what reads and writes
            self._database.execute(f"PRAGMA busy_timeout={timeout_ms}")

    def _tell(self, what: str, error: sqlite3.Error) -> None:
        if not self._has_failed:
            _log.warning(
                "cannot %s %s: %s; replies are asked for again where they are not there", what, self._path, error
            )
        self._has_failed = True

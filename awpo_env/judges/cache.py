"""Replies of judge models on disk, so that none is bought twice; safe for several processes and for kill -9."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

# The standard library's SQLite instead of a cache library: the usual one unpickles what lies on disk, and a file of
# replies must never be able to run code.
_FILE = "replies.sqlite"
_BUSY_TIMEOUT_S = 60.0
_SHRINK_TO = 0.9
_SIZE_OF_ROW = 200  # bytes beside the texts: keys, index, page overhead
_SUM = "SELECT COALESCE(SUM(num_bytes), 0) FROM replies"
_CREATE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, reply TEXT NOT NULL, stored_at REAL NOT NULL, num_bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS replies_by_age ON replies (stored_at, num_bytes);
"""


class ReplyCache:
    """A bounded map from content digests to replies, in one SQLite file.

    A reply is on disk when `put` returns. When the replies outgrow the limit, the oldest go. The folder has to be on a
    local disk: SQLite's write-ahead log does not work over network file systems.

    Args:
        folder: Made if it is missing, readable by its owner only.
        max_bytes: Most bytes of replies kept.
    """

    def __init__(self, folder: str | Path, max_bytes: int) -> None:
        self._path = Path(folder) / _FILE
        self._max_bytes = max_bytes
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._database = sqlite3.connect(
            self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        # A log that is not flushed on every commit: what was committed outlives the process, whatever ends it.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(_CREATE)
        (self._num_bytes,) = self._database.execute(_SUM).fetchone()

    def get(self, key: str) -> str | None:
        """Return the reply stored under a key, or None."""
        row = self._database.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def put(self, key: str, reply: str) -> None:
        """Store a reply, replacing an earlier one."""
        num_bytes = len(key) + len(reply.encode("utf-8", "replace")) + _SIZE_OF_ROW
        self._database.execute(
            "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", (key, reply, time.time(), num_bytes)
        )
        self._num_bytes += num_bytes
        if self._num_bytes > self._max_bytes:
            self._shrink()

    def __len__(self) -> int:
        return self._database.execute("SELECT COUNT(*) FROM replies").fetchone()[0]

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._database.close()

    def _shrink(self) -> None:
        """Drop the oldest replies; the size is counted anew, since other processes write too."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            (self._num_bytes,) = self._database.execute(_SUM).fetchone()
            while self._num_bytes > _SHRINK_TO * self._max_bytes:
                key, num_bytes = self._database.execute(
                    "SELECT key, num_bytes FROM replies ORDER BY stored_at, key LIMIT 1"
                ).fetchone()
                self._database.execute("DELETE FROM replies WHERE key = ?", (key,))
                self._num_bytes -= num_bytes

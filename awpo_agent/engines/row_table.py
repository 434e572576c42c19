"""Which conversation lies in which row, and what is known of it: ids, how far the attention state reaches, settings."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

Key = tuple[int, int, int]

_FIELDS = [
    ("kept", np.int64),  # tokens whose attention state lies in the row
    ("used", np.int64),  # when the row was last asked for, counted in admissions
    ("noise", np.uint64),
    ("temperature", np.float64),
    ("top_k", np.int64),
    ("top_p", np.float64),
]


class RowTable:
    """Rows by number and by conversation key; arrays, so that a decode step costs the same for one row and for many."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self.state_R = np.zeros(num_rows, dtype=_FIELDS)
        self.ids_RT = np.zeros((num_rows, 0), dtype=np.int64)
        self.logprobs_RT = np.zeros((num_rows, 0), dtype=np.float32)
        self.keys: list[Key | None] = [None] * num_rows
        self.row_of: dict[Key, int] = {}

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens per row."""
        missing = length - self.ids_RT.shape[1]
        if missing > 0:
            missing = max(missing, self.ids_RT.shape[1] // 2)
            self.ids_RT = np.pad(self.ids_RT, ((0, 0), (0, missing)))
            self.logprobs_RT = np.pad(self.logprobs_RT, ((0, 0), (0, missing)))

    def take(self, key: Key, num_active: int, spared: Collection[Key], wanted: Collection[Key]) -> int:
        """Return a row for `key`: its own, a free one, or that of the conversation that has been idle longest.

        Args:
            key: The conversation.
            num_active: The first so many rows are being sampled.
            spared: Conversations that keep their row whatever happens.
            wanted: Conversations that lose theirs only when no other can be had.
        """
        if key in self.row_of:
            return self.row_of[key]
        idle = [row for row in range(num_active, self.num_rows) if self.keys[row] not in spared]
        used = self.state_R["used"]
        row = min(idle, key=lambda row: (self.keys[row] is not None, self.keys[row] in wanted, used[row], row))
        self.release(self.keys[row])
        self.keys[row], self.row_of[key] = key, row
        self.state_R[row] = 0
        return row

    def release(self, key: Key | None) -> None:
        """Forget a conversation; its row is free."""
        row = self.row_of.pop(key, None)
        if row is not None:
            self.keys[row] = None

    def write_prompt(self, row: int, prompt: np.ndarray) -> None:
        """Store a conversation's ids; the attention state stays valid as far as they agree with the ids before."""
        state = self.state_R[row]
        agreeing = common_prefix(self.ids_RT[row : row + 1, : int(state["kept"])], prompt)[0]
        # The last token is left for the decode step, which is where logits come from.
        state["kept"] = min(agreeing, len(prompt) - 1)
        self.reserve(len(prompt))
        self.ids_RT[row, : len(prompt)] = prompt

    def gather(self, active: Sequence[int]) -> tuple[list[int], list[int]]:
        """Move the rows `active` to the front; return the pairs of rows that were exchanged."""
        members = set(active)
        holes = [row for row in range(len(members)) if row not in members]
        strays = sorted(row for row in members if row >= len(members))
        for hole, stray in zip(holes, strays, strict=True):
            self.keys[hole], self.keys[stray] = self.keys[stray], self.keys[hole]
            for row in (hole, stray):
                if self.keys[row] is not None:
                    self.row_of[self.keys[row]] = row
        for array in (self.state_R, self.ids_RT, self.logprobs_RT):
            array[holes + strays] = array[strays + holes]
        return holes, strays


def common_prefix(ids_RT: np.ndarray, ids_T: np.ndarray) -> np.ndarray:
    """Return for each row the number of leading ids that agree with `ids_T`."""
    length = min(ids_RT.shape[1], len(ids_T))
    differs_RT = np.ones((len(ids_RT), length + 1), dtype=bool)
    differs_RT[:, :length] = ids_RT[:, :length] != ids_T[:length]
    return differs_RT.argmax(axis=1)

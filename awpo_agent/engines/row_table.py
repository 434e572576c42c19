"""Which conversation lies in which row, and what is known of it: ids, how far its attention state reaches, settings."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from awpo_agent.engines.base import Sampling
from awpo_agent.engines.noise import noise_state

Key = tuple[int, int, int]

_FIELDS = [
    ("kept", np.int64),  # tokens whose attention state lies in the row
    ("lost", np.int64),  # tokens whose attention state existed once, before it was dropped
    ("used", np.int64),  # when the row was last asked for, in admissions
    ("noise", np.uint64),
    ("temperature", np.float64),
    ("top_k", np.int64),
    ("top_p", np.float64),
]


class RowTable:
    """Rows by number and by conversation; arrays, so that a decode step reads them at once.

    Attributes:
        state_R: One record per row, see `_FIELDS`.
        ids_RT: Ids of each conversation.
        logprobs_RT: Log-probabilities of the ids sampled.
        keys: The conversation in each row, None for a free row.
        row_of: The row of each conversation.
    """

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self.state_R = np.zeros(num_rows, dtype=_FIELDS)
        self.ids_RT = np.zeros((num_rows, 0), dtype=np.int64)
        self.logprobs_RT = np.zeros((num_rows, 0), dtype=np.float32)
        self.keys: list[Key | None] = [None] * num_rows
        self.row_of: dict[Key, int] = {}
        self._evicted: dict[Key, int] = {}

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens per row."""
        width = self.ids_RT.shape[1]
        if length > width:
            missing = ((0, 0), (0, max(length - width, width // 2)))
            self.ids_RT, self.logprobs_RT = np.pad(self.ids_RT, missing), np.pad(self.logprobs_RT, missing)

    def take(self, keys: Sequence[Key], num_active: int, wanted: Collection[Key]) -> list[int]:
        """Return a row for each of `keys`: its own, a free one, or that of the conversation idle for longest.

        Args:
            keys: Conversations; at most as many as there are rows that are not active.
            num_active: The first so many rows are being sampled.
            wanted: Conversations that lose their row only when no other can be had.
        """
        spared = set(keys)
        idle = [row for row in range(num_active, self.num_rows) if self.keys[row] not in spared]
        used_R = self.state_R["used"].tolist()
        idle.sort(key=lambda row: (self.keys[row] is not None, self.keys[row] in wanted, used_R[row]))
        for key, row in zip([key for key in keys if key not in self.row_of], idle, strict=False):
            if self.keys[row] is not None:
                self._evicted[self.keys[row]] = int(self.state_R["kept"][row])
                del self.row_of[self.keys[row]]
            self.keys[row], self.row_of[key] = key, row
            self.state_R[row] = 0
            self.state_R["lost"][row] = self._evicted.pop(key, 0)
        return [self.row_of[key] for key in keys]

    def forget(self, key: Key) -> None:
        """Forget a conversation; its row is free."""
        self._evicted.pop(key, None)
        row = self.row_of.pop(key, None)
        if row is not None:
            self.keys[row] = None
            self.state_R["used"][row] = 0

    def begin_turn(self, row: int, prompt: np.ndarray, sampling: Sampling, now: int) -> None:
        """Store a conversation's ids and settings; its state stays valid as far as the ids agree with those before."""
        self.reserve(len(prompt))
        state = self.state_R[row]
        agreeing = int(common_prefix(self.ids_RT[row : row + 1, : state["kept"]], prompt)[0])
        state["lost"] = max(state["lost"], state["kept"])
        # The last token is left for the decode step, which is where logits come from.
        state["kept"] = min(agreeing, len(prompt) - 1)
        state["used"] = now
        state["noise"] = noise_state(*sampling.key)
        state["temperature"], state["top_k"], state["top_p"] = sampling.temperature, sampling.top_k, sampling.top_p
        self.ids_RT[row, : len(prompt)] = prompt

    def gather(self, rows: Sequence[int]) -> list[tuple[int, int]]:
        """Move `rows` to the front; return (new, old) of each one moved: those two rows were exchanged."""
        members = set(rows)
        holes = [row for row in range(len(members)) if row not in members]
        strays = sorted(row for row in members if row >= len(members))
        for hole, stray in zip(holes, strays, strict=True):
            self.keys[hole], self.keys[stray] = self.keys[stray], self.keys[hole]
            for row in (hole, stray):
                if self.keys[row] is not None:
                    self.row_of[self.keys[row]] = row
        if holes:
            for array in (self.state_R, self.ids_RT, self.logprobs_RT):
                array[holes + strays] = array[strays + holes]
        return list(zip(holes, strays, strict=True))


def common_prefix(ids_RT: np.ndarray, ids_T: np.ndarray) -> np.ndarray:
    """Return for each row the number of leading ids that agree with `ids_T`."""
    length = min(ids_RT.shape[1], len(ids_T))
    differs_RT = np.ones((len(ids_RT), length + 1), dtype=bool)
    differs_RT[:, :length] = ids_RT[:, :length] != ids_T[:length]
    return differs_RT.argmax(axis=1)

"""In which order prompts are prefilled: whose beginning is copied from whom, and which rows share a forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from awpo_agent.engines.row_table import RowTable, common_prefix

_LEAST_SHARED = 16  # a common beginning shorter than this is not worth a forward pass of its own
_LEAST_FILLED = 0.75  # rows shorter than this share of the longest are forwarded apart from it


@dataclass(slots=True)
class Wave:
    """Rows that can be prefilled at the same time.

    Attributes:
        rows: All of them.
        copies: (source, target, length): `target` starts with the first `length` tokens of `source`.
    """

    rows: list[int] = field(default_factory=list)
    copies: list[tuple[int, int, int]] = field(default_factory=list)


def plan_waves(table: RowTable, ends: Mapping[int, int]) -> list[Wave]:
    """Order the prefill so that a beginning common to several new conversations is forwarded once.

    At most three waves: the first prompt of its kind, prompts that begin like it, prompts equal to one of those.

    Args:
        table: Rows with their ids; the state of their first `kept` tokens exists.
        ends: For each row to prefill, the number of tokens whose state is wanted.
    """
    waves = [Wave(), Wave(), Wave()]
    kept_R = table.state_R["kept"]
    available_R = kept_R.copy()
    depths: dict[int, int] = {}
    first_with: dict[bytes, int] = {}
    for row, end in ends.items():
        source, shared = row, 0
        if kept_R[row] == 0:
            prompt = table.ids_RT[row, :end]
            source, shared = first_with.setdefault(prompt.tobytes(), row), end
            if source == row:
                agreeing_R = np.minimum(common_prefix(table.ids_RT, prompt), available_R)
                source = int(agreeing_R.argmax())
                shared = int(agreeing_R[source])
        is_copied = source != row and shared >= _LEAST_SHARED
        depths[row] = depths.get(source, -1) + 1 if is_copied else 0
        waves[depths[row]].rows.append(row)
        if is_copied:
            waves[depths[row]].copies.append((source, row, shared))
        if depths[row] == 0:
            available_R[row] = end
    return [wave for wave in waves if wave.rows]


def next_pass(missing: Mapping[int, int], most_tokens: int) -> tuple[list[int], int]:
    """Choose the rows of the next forward pass, those of similar length together.

    Args:
        missing: For each row the number of tokens yet to forward, each at least 1.
        most_tokens: Most tokens of the pass, padding included.

    Returns:
        The rows and the number of tokens to forward of each (fewer where a row has fewer).
    """
    rows = sorted(missing, key=lambda row: -missing[row])
    longest = min(missing[rows[0]], most_tokens)
    rows = rows[: most_tokens // longest]
    return [row for row in rows if missing[row] >= _LEAST_FILLED * longest], longest

"""Attention state of many conversations: one row each, in buffers that a decode step reads without copying.

Rows are aligned on the left. A forward pass may write beyond the end of a row (padding); that is never attended, as the
mask only admits keys up to the position of the query, and it is overwritten when the row gets there.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_BLOCK = 64  # buffers grow to a multiple of this many tokens


class KVRows(Cache):
    """A Hugging Face cache whose next forward pass goes to the rows that `select` named.

    Args:
        num_rows: Number of rows; memory is taken for rows and lengths in use only.
        max_length: Longest row, in tokens.
    """

    def __init__(self, num_rows: int, max_length: int) -> None:
        super().__init__(layer_class_to_replicate=lambda: _LayerRows(self))
        self.num_rows = num_rows
        self.max_length = max_length
        self.allocated = (0, 0)  # rows and tokens for which there is memory

    def reserve_rows(self, num_rows: int) -> None:
        """Make room for the first `num_rows` rows."""
        rows, tokens = self.allocated
        if num_rows > rows:
            self._grow(min(self.num_rows, max(num_rows, 2 * rows)), tokens)

    def reserve_length(self, length: int) -> None:
        """Make room for `length` tokens in each row."""
        rows, tokens = self.allocated
        if length > tokens:
            tokens = max(length, min(self.max_length, tokens * 3 // 2))
            self._grow(rows, -(-tokens // _BLOCK) * _BLOCK)

    def blank(self) -> None:
        """Forget every row but keep the memory."""
        for buffer in self._buffers():
            # Should the weights ever go astray, what they left here must not reach later conversations.
            buffer.zero_()

    def release(self) -> None:
        """Forget every row and give the memory back."""
        self.layers.clear()
        self.allocated = (0, 0)

    def _grow(self, rows: int, tokens: int) -> None:
        self.allocated = (rows, tokens)
        for layer in self.layers:
            layer.grow(rows, tokens)

    def select(self, rows: slice | torch.Tensor, position_BT: torch.Tensor, longest: int) -> None:
        """Let the next forward pass write at `position_BT` of `rows` and see the first `longest` positions of them.

        Args:
            rows: A slice from 0 is read as a view; an index tensor costs a copy.
            position_BT: Positions of the new tokens, on the device of the model.
            longest: One more than the greatest position.
        """
        self.rows, self.position_BT, self.longest = rows, position_BT, longest
        index_B = torch.arange(len(position_BT), device=position_BT.device) if isinstance(rows, slice) else rows
        self.index_B1 = index_B[:, None]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one row to another."""
        # Row by row: indexing with lists of rows takes two to four times as long.
        for buffer in self._buffers():
            buffer[target, :, :length] = buffer[source, :, :length]

    def swap(self, left: int, right: int, length: int) -> None:
        """Exchange the first `length` tokens of two rows."""
        for buffer in self._buffers():
            moved = buffer[left, :, :length].clone()
            buffer[left, :, :length] = buffer[right, :, :length]
            buffer[right, :, :length] = moved

    def _buffers(self) -> Iterator[torch.Tensor]:
        for layer in self.layers:
            yield layer.keys
            yield layer.values


class _LayerRows(CacheLayerMixin):
    """Keys and values of one layer, [row, head, position, channel]."""

    def __init__(self, owner: KVRows) -> None:
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        rows, tokens = self.owner.allocated
        # Zeros, not empty: a masked NaN would still spoil the sum it is left out of.
        self.keys = key_states.new_zeros(rows, key_states.shape[1], tokens, key_states.shape[3])
        self.values = value_states.new_zeros(rows, value_states.shape[1], tokens, value_states.shape[3])
        self.is_initialized = True

    def grow(self, rows: int, tokens: int) -> None:
        """Enlarge both buffers."""
        self.keys, self.values = _enlarged(self.keys, rows, tokens), _enlarged(self.values, rows, tokens)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Store the new tokens' state and return that of the selected rows."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        owner = self.owner
        self.keys[owner.index_B1, :, owner.position_BT] = key_states.transpose(1, 2)
        self.values[owner.index_B1, :, owner.position_BT] = value_states.transpose(1, 2)
        return self.keys[owner.rows, :, : owner.longest], self.values[owner.rows, :, : owner.longest]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.owner.longest, 0

    def get_seq_length(self) -> int:
        return self.owner.longest - self.owner.position_BT.shape[1]

    def get_max_length(self) -> int:
        return self.owner.max_length


def _enlarged(buffer: torch.Tensor, rows: int, tokens: int) -> torch.Tensor:
    larger = buffer.new_zeros(rows, buffer.shape[1], tokens, buffer.shape[3])
    larger[: buffer.shape[0], :, : buffer.shape[2]] = buffer
    return larger

"""The pantry behind the tools: how many packets of what stand on one shelf."""

from __future__ import annotations

from typing import Any

from awpo_env.errors import ToolError


class Backend:
    """One method for each tool of tools.json, with the arguments it declares.

    Args:
        state: The ``state`` of the task, packets by item. It is copied, as the next episode starts from it as well.
    """

    def __init__(self, state: dict[str, int]) -> None:
        self._amounts = dict(state)

    def snapshot(self) -> dict[str, int]:
        """The whole state, in an order that does not depend on how it came about."""
        return dict(sorted(self._amounts.items()))

    def restore(self, snapshot: dict[str, int]) -> None:
        """Go back to a snapshot."""
        self._amounts = dict(snapshot)

    def list_items(self) -> dict[str, Any]:
        """What is on the shelf."""
        return {"items": sorted(self._amounts)}

    def get_amount(self, item: str) -> dict[str, Any]:
        """How many packets of an item there are."""
        return {"item": item, "amount": self._amount(item)}

    def add_item(self, item: str, amount: int) -> dict[str, Any]:
        """Put packets on the shelf."""
        self._amounts[item] = self._amounts.get(item, 0) + amount
        return self.get_amount(item)

    def take_item(self, item: str, amount: int) -> dict[str, Any]:
        """Take packets off the shelf."""
        left = self._amount(item) - amount
        if left < 0:
            # ToolError is for what the model did wrong; it reads the message and may try again.
            raise ToolError(f"There are only {self._amount(item)} packets of {item}.")
        self._amounts[item] = left
        return self.get_amount(item)

    def remove_item(self, item: str) -> dict[str, Any]:
        """Take an item off the shelf altogether."""
        self._amount(item)
        del self._amounts[item]
        return {"removed": item}

    def _amount(self, item: str) -> int:
        if item not in self._amounts:
            raise ToolError(f"There is no {item} on the shelf.")
        return self._amounts[item]

"""The four operations: no state, results rounded to two decimals."""

from __future__ import annotations

from typing import Any

from awpo_env.errors import ToolError

LARGEST = 10**12


class Backend:
    """Adds, subtracts, multiplies and divides.

    >>> Backend({}).divide(45, 2)
    {'result': 22.5}
    """

    def __init__(self, state: Any) -> None:
        """Take the state every suite is given; a calculator has none."""

    def add(self, a: float, b: float) -> dict[str, float]:
        return _result(a + b)

    def subtract(self, a: float, b: float) -> dict[str, float]:
        return _result(a - b)

    def multiply(self, a: float, b: float) -> dict[str, float]:
        return _result(a * b)

    def divide(self, a: float, b: float) -> dict[str, float]:
        if b == 0:
            raise ToolError("cannot divide by 0; b must be another number")
        return _result(a / b)

    def snapshot(self) -> dict[str, Any]:
        """Return the state: always the empty object."""
        return {}

    def restore(self, snapshot: Any) -> None:
        """Do nothing: every call leaves the state as it was."""


def _result(value: float) -> dict[str, float]:
    """Round to two decimals; a whole number is an integer, so that it reads "42" and never "42.0"."""
    if not abs(value) <= LARGEST:  # written so that NaN fails too
        raise ToolError(f"the result must lie between -{LARGEST} and {LARGEST}")
    rounded = round(value, 2)
    return {"result": int(rounded) if rounded == int(rounded) else rounded}

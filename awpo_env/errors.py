"""The exception tree: who is addressed decides the class.

    AwpoError
    |-- UsageError (ValueError)   the caller asked for something impossible; commands exit with status 2
    |   `-- SuiteError            a tool suite is inconsistent: schema, backend or tasks disagree
    `-- ToolError                 raised by a tool backend for a mistake of the *model*; becomes an observation

Any other exception that leaves a backend is a bug of the tool: the episode ends as ``environment_error``, unscored.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST_COMPARED_NAME = 64  # difflib is quadratic; a model may write a name of any length


class AwpoError(Exception):
    """Base of every exception this package raises on purpose."""


class UsageError(AwpoError, ValueError):
    """The caller asked for something impossible. One sentence: the value, what was expected, what to do next."""


class SuiteError(UsageError):
    """A tool suite is inconsistent; the message names both sides."""


class ToolError(AwpoError):
    """A backend refuses a call because of a mistake the model made; the model reads `message` and may try again.

    Args:
        message: What is wrong and, where it helps, what would be right. Short: a model pays for every token.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most like `name`, or None when nothing is close."""
    matches = difflib.get_close_matches(name[:_LONGEST_COMPARED_NAME], list(candidates), n=1)
    return matches[0] if matches else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest candidate, or an empty string."""
    match = closest(name, candidates)
    return f" Did you mean {match!r}?" if match else ""

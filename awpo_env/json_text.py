"""JSON as a model writes it: read by the letter of the standard and within bounds."""

from __future__ import annotations

import json
import math

from awpo_env.types import JSON

DEEPEST_VALUE = 32  # levels of nesting; no real tool needs more, and recursion has to end somewhere
_LONGEST_NAME = 256  # characters of a key; patterns are matched against it


def encodable(text: str) -> str:
    """Return `text` with every lone surrogate replaced by U+FFFD, so that it can be stored as UTF-8.

    >>> encodable("a\\ud800b") == "a\\ufffdb"
    True
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # Through UTF-16, two halves that belong together become their character; only lone ones are lost.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def loads_strict(text: str) -> JSON:
    """Parse JSON as the standard has it: no NaN, no Infinity, no duplicate keys, no lone surrogates, no deep nesting.

    Raises:
        ValueError: The text is not such JSON; the message is one short clause for the model.
    """
    try:
        value = _DECODER.decode(text)
        text.encode("utf-8")
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("lone surrogate in text") from None
    _check_nesting(value)
    if "\\u" in text and _has_surrogate(value):
        raise ValueError("lone surrogate in text")
    return value


def _no_constant(name: str) -> JSON:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("number out of range")
    return value


def _bounded_int(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError("number out of range")
    return int(digits)


def read_number(digits: str) -> int | float:
    """Return the number that `digits` write as JSON does: 64 bits for an integer, anything finite otherwise.

    Raises:
        ValueError: It is out of range.
    """
    return _bounded_int(digits) if digits.lstrip("-").isdecimal() else _finite(digits)


def unique_object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    """Return names and values as an object.

    Raises:
        ValueError: A name stands there twice, or is longer than any tool needs.
    """
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("duplicate key")
    if any(len(name) > _LONGEST_NAME for name in value):
        raise ValueError(f"a name of more than {_LONGEST_NAME} characters")
    return value


def _check_nesting(value: JSON) -> None:
    level = [value]
    for _ in range(DEEPEST_VALUE):
        level = [
            item
            for container in level
            if isinstance(container, dict | list)
            for item in (container.values() if isinstance(container, dict) else container)
        ]
        if not level:
            return
    raise ValueError("nested too deeply")


def _has_surrogate(value: JSON) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


_DECODER = json.JSONDecoder(
    parse_constant=_no_constant, parse_float=_finite, parse_int=_bounded_int, object_pairs_hook=unique_object
)

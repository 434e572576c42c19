"""Results that are too long: cut off where they should be, never silently, and counted by whoever has a tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awpo_env.env import ToolUseEnv
from awpo_env.limits import estimate_tokens, shorten


def words(text: str) -> int:
    return len(text.split())


def test_an_estimate_is_a_token_for_every_three_characters() -> None:
    assert [estimate_tokens("x" * length) for length in (0, 1, 3, 4, 300)] == [0, 1, 1, 2, 100]


def test_a_cut_says_how_long_the_result_was() -> None:
    assert shorten("x" * 300, 100, estimate_tokens) == "x" * 300
    # 100 tokens are 300 characters, 29 of them the mark.
    assert shorten("x" * 301, 100, estimate_tokens) == "x" * 271 + " ...[cut off: 301 characters]"
    assert shorten("a b c d e f g h", 7, words) == "a b c  ...[cut off: 15 characters]"
    assert shorten("a b c d e f g h", 8, words) == "a b c d e f g h"


@given(st.text(max_size=400), st.integers(1, 120), st.sampled_from([estimate_tokens, len, lambda t: len(t.encode())]))
def test_what_fits_is_whole_and_what_does_not_is_the_longest_that_does(
    text: str, most: int, count: Callable[[str], int]
) -> None:
    short = shorten(text, most, count)
    if count(text) <= most:
        assert short == text
        return
    kept, mark, rest = short.rpartition(" ...[cut off: ")
    assert mark and rest == f"{len(text)} characters]" and text.startswith(kept)
    assert count(short) <= most or kept == ""
    assert count(text[: len(kept) + 1] + mark + rest) > most


def test_a_flood_is_never_counted_whole() -> None:
    counted: list[int] = []

    def count(text: str) -> int:
        counted.append(len(text))
        return estimate_tokens(text)

    shorten("x" * 10_000_000, 1000, count)
    assert max(counted) < 10_000


def test_an_environment_cuts_results_with_the_counter_it_was_given(
    make: Callable[..., ToolUseEnv], call: Callable[..., str]
) -> None:
    def content(env: ToolUseEnv) -> Any:
        return env.step(call("get_note", note_id="N1"))[0]["new_messages"][-1]["content"]

    whole = content(make(task="ask"))
    assert len(whole) > 60
    env = make(task="ask", limits={"max_result_tokens": 15})
    assert content(env) == whole[: 45 - 28] + f" ...[cut off: {len(whole)} characters]"
    env.count_tokens = len
    assert content(env) == f" ...[cut off: {len(whole)} characters]"
    env.count_tokens = lambda text: 1
    assert content(env) == whole


def test_a_limit_is_a_whole_number(make: Callable[..., ToolUseEnv]) -> None:
    with pytest.raises(ValueError, match="max_result_tokens is 0; expected a whole number"):
        make(limits={"max_result_tokens": 0})

"""Bounded patterns find what `re` finds, also where `re` would never come back."""

from __future__ import annotations

import random
import re
import time

import pytest

from awpo_env.patterns import BoundedPattern, TooMuchWork

NUM_PATTERNS = 1_500


def random_pattern(rng: random.Random, depth: int = 4) -> str:
    kind = rng.random()
    if depth == 0 or kind < 0.35:
        return rng.choice(("a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", "^", "$", r"\b", r"\B", "\n", ""))
    inner = random_pattern(rng, depth - 1)
    if kind < 0.55:
        return inner + random_pattern(rng, depth - 1)
    if kind < 0.7:
        return f"(?:{inner}|{random_pattern(rng, depth - 1)})"
    if kind < 0.92:
        return f"({inner})" + rng.choice(("*", "+", "?", "*?", "{2}", "{1,3}", "{0,2}?", "{2,}"))
    return rng.choice(("(?=", "(?!")) + inner + ")"


def test_both_ways_of_matching_agree_with_re() -> None:
    rng = random.Random(0)
    num_found = 0
    for _ in range(NUM_PATTERNS):
        pattern = random_pattern(rng)
        bounded = BoundedPattern(pattern)
        for _ in range(3):
            text = "".join(rng.choices("aab1 \n", k=rng.randrange(9)))
            is_found = re.search(pattern, text) is not None
            assert bounded.matches(text) is is_found, (pattern, text)
            bounded.is_quick = False
            assert bounded.matches(text) is is_found, (pattern, text)
            num_found += is_found
    assert num_found > NUM_PATTERNS


@pytest.mark.parametrize("pattern", ["(?i)^(ab)*$", "(?s)^(a.)*$"])
def test_flags_of_the_whole_pattern_count(pattern: str) -> None:
    bounded = BoundedPattern(pattern)
    for text in ("ABab" * 20, "a\n" * 40):
        assert bounded.matches(text) is (re.search(pattern, text) is not None)


@pytest.mark.parametrize(
    ("pattern", "text", "is_found"),
    [
        (r"^(a+)+$", "a" * 300 + "!", False),
        (r"^(a+)+$", "a" * 300, True),
        (r"^(\w+\s?)*$", "word " * 60 + "!", False),
        (r"(a?){40}a{40}", "a" * 40, True),
        (r"^[a-z]+(-[a-z]+)*$", "ab-" * 200, False),
        (r"(?=.*1)(?=.*2)x", "x1" * 100, False),
        (r"(.*)*y", "x" * 300, False),
        (r"(x{2000000000})", "x" * 100, False),
    ],
)
def test_patterns_on_which_re_never_comes_back(pattern: str, text: str, is_found: bool) -> None:
    assert BoundedPattern(pattern).matches(text) is is_found


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [r"(\w+\s?)*$", "(?:(a|b|ab)*c)*d", "((a{0,1000}){0,1000}){0,1000}b"])
def test_a_search_ends_soon_or_gives_up_soon(pattern: str) -> None:
    start = time.process_time()
    with pytest.raises(TooMuchWork):
        BoundedPattern(pattern).matches("ab " * 33_000)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(", "is no regular expression"),
        (r"(a)\1", "uses a back-reference"),
        (r"(a)?(?(1)b|c)", "uses a back-reference"),
        ("(?<=a)b", "uses a look-behind"),
        ("(?<!a)b", "uses a look-behind"),
        ("(?i:a)", "uses a group with flags"),
        ("a++", "uses a possessive repeat"),
        ("(?>a)", "uses an atomic group"),
        ("(" * 900 + "a|b" + ")" * 900, "nested too deeply"),
        ("a" * 2_001, "at most 2000"),
    ],
)
def test_what_cannot_be_bounded_is_refused_by_name(pattern: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        BoundedPattern(pattern)

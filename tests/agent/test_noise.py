"""Noise: golden values, uniform, and independent across keys and positions."""

import math

import numpy as np
import pytest

from awpo_agent.engines.noise import noise_state, uniform

GOLDEN_STATES = (2558736989570252433, 8076984150304651870, 1158818641337373459)
GOLDEN_DRAWS = [0.1296456182997474, 0.049920065672091285, 0.12056652342334184]


def draws(states, positions):
    return uniform(np.array(states, dtype=np.uint64), np.array(positions))


def test_golden_values():
    assert noise_state(0, 0, 0) == GOLDEN_STATES[0]
    assert noise_state(42, 7, 3) == GOLDEN_STATES[1]
    assert noise_state(-1, 2**70, 5) == GOLDEN_STATES[2]
    assert draws([noise_state(0, 0, 0)] * 3, [0, 1, 1000]).tolist() == GOLDEN_DRAWS


def test_is_the_published_splitmix64():
    # First outputs of splitmix64 from state 1234567, as listed with the reference implementation.
    want = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    got = draws([1234567] * 5, range(5))
    assert got.tolist() == [(value >> 11) * 2.0**-53 for value in want]


def test_each_part_of_the_key_matters():
    keys = [(s, t, e) for s in range(8) for t in range(8) for e in range(8)] + [(-1, 0, 0), (2**64 + 9, 0, 0)]
    assert len({noise_state(*key) for key in keys}) == len(keys)


def test_stays_below_one():
    # The position whose state makes all 53 bits 1 is out of reach of a test; the arithmetic is not.
    assert float(np.uint64(2**64 - 1) >> np.uint64(11)) * 2.0**-53 < 1.0


@pytest.mark.parametrize("axis", ["seed", "step", "episode", "position"])
def test_uniform_along_each_axis(axis):
    number = 20_000
    index = np.arange(number)
    parts = {name: index if name == axis else np.full(number, 5) for name in ("seed", "step", "episode", "position")}
    states = [noise_state(*map(int, key)) for key in zip(parts["seed"], parts["step"], parts["episode"], strict=True)]
    values = draws(states, parts["position"])
    assert values.min() >= 0.0 and values.max() < 1.0
    counts = np.histogram(values, bins=100, range=(0, 1))[0]
    chi_square = ((counts - number / 100) ** 2 / (number / 100)).sum()
    assert 60 < chi_square < 149  # 99 degrees of freedom: about 0.1 % on either side
    neighbours = np.corrcoef(values[:-1], values[1:])[0, 1]
    assert abs(neighbours) < 4 / math.sqrt(number)


def test_neighbouring_streams_are_independent():
    number = 20_000
    here, there = noise_state(0, 0, 0), noise_state(0, 0, 1)
    positions = np.arange(number)
    one, other = draws([here] * number, positions), draws([there] * number, positions)
    for shift in range(3):
        assert abs(np.corrcoef(one[shift:], other[: number - shift])[0, 1]) < 4 / math.sqrt(number)


def test_a_draw_does_not_depend_on_the_batch():
    states = [noise_state(0, 0, episode) for episode in range(50)]
    together = draws(states, range(50))
    alone = [draws([state], [position])[0] for position, state in enumerate(states)]
    assert together.tolist() == alone

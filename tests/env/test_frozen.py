"""Frozen JSON reads like ordinary JSON and refuses every change."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awpo_env.frozen import FrozenDict, FrozenList, freeze, thaw

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS, lambda items: st.lists(items, max_size=3) | st.dictionaries(st.text(max_size=3), items, max_size=3)
)
READING = """copy count fromkeys get index items keys values
__add__ __class_getitem__ __contains__ __doc__ __eq__ __ge__ __getattribute__ __getitem__ __gt__ __hash__ __init__
__iter__ __le__ __len__ __lt__ __mul__ __ne__ __new__ __or__ __repr__ __reversed__ __rmul__ __ror__ __sizeof__"""


def containers(value: Any) -> list[type]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [type(value)] if isinstance(value, dict | list) else []
    return own + [kind for item in items for kind in containers(item)]


@given(value=VALUES)
def test_frozen_values_read_as_they_were_and_thaw_to_ordinary_ones(value: Any) -> None:
    frozen = freeze(value)
    assert frozen == value
    assert json.dumps(frozen) == json.dumps(value)
    assert set(containers(frozen)) <= {FrozenDict, FrozenList}
    assert copy.deepcopy(frozen) is frozen
    for copied in (thaw(frozen), pickle.loads(pickle.dumps(frozen))):
        assert copied == value
        assert set(containers(copied)) <= {dict, list}


@pytest.mark.parametrize(("kind", "base"), [(FrozenDict, dict), (FrozenList, list)])
def test_everything_that_does_not_read_is_refused(kind: type, base: type) -> None:
    changing = {name for name in vars(base) if name not in READING.split()}
    assert {"__setitem__", "__delitem__", "clear", "pop"} < changing
    for name in changing:
        with pytest.raises(TypeError, match="thaw"):
            getattr(kind(), name)()


@pytest.mark.parametrize(
    "change",
    [
        lambda tool: tool.update(type="x"),
        lambda tool: tool["function"].pop("name"),
        lambda tool: tool["function"]["required"].append("x"),
        lambda tool: tool["function"]["required"].__setitem__(0, "x"),
    ],
)
def test_no_depth_can_be_changed_and_what_was_frozen_is_a_copy(change: Callable[[Any], object]) -> None:
    tool = {"type": "function", "function": {"name": "a", "required": ["b"]}}
    frozen = freeze(tool)
    with pytest.raises(TypeError):
        change(frozen)
    change(tool)
    assert frozen == {"type": "function", "function": {"name": "a", "required": ["b"]}} != tool

"""The rubric's criteria for one step of reasoning: pure functions, each in [0, 1] or None where it says nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from awpo_env.judges.reading import Call, Step, Text, leaves

_BRIEF_WORDS = 80  # a plan for one message fits in this; what is longer mostly repeats itself
_LONG_WORDS = 600  # 60 words beyond the brief ones cost a tenth
_LEAST_BREVITY = 0.5
_SPARE_VALUES = 2  # values a plan may name beside those it acts on
_VALUE_EXCESS, _TOOL_EXCESS = 0.5, 1.0  # each further one; there are fewer tools than values to list
_SPARE_TOOLS = 1  # tools a plan may weigh beside the ones it uses before, now and next
_ENOUGH_LINKS = 2  # terms a thought must share with what it speaks of; one may be chance
_COUNTING = frozenset("0123456789")  # "the 2 orders": small counts come from nowhere and harm nothing


def grounded(step: Step, derived: Set[str], declared: Callable[[], Set[str]]) -> float:
    """Share of the values named in the reasoning that come from somewhere, in [0, 1]; 1 when none is named.

    Args:
        step: The step.
        derived: Values that may be worked out instead of read (a converted time), from the reference.
        declared: Gives the values of the tool declarations; only called when a value is not found elsewhere.
    """
    named = step.reasoning.values
    unknown = named - step.known - derived - _COUNTING
    if unknown:
        unknown -= declared()
    return 1.0 - len(unknown) / len(named) if unknown else 1.0


def agrees(step: Step, before: Sequence[Step]) -> float:
    """How far the plan is what is then done, in [0, 1]: it names the tool and the values of the calls it comes with.

    Without calls, the reasoning has to speak of what was done in this user turn or is about to be said.

    Args:
        step: The step.
        before: The steps before it.
    """
    thought = step.reasoning
    if step.calls:
        return sum(_foretells(thought, call) for call in step.calls) / len(step.calls)
    done = [call for other in before if other.turn == step.turn for call in other.calls]
    about = step.content.terms.union(*(call.result.terms | call.result.names | {call.name.lower()} for call in done))
    return float(len((thought.terms | thought.tokens) & about) >= _ENOUGH_LINKS)


def _foretells(thought: Text, call: Call) -> float:
    if call.name.lower() not in thought.tokens:
        return 0.0
    wanted = list(leaves(call.arguments))
    if not wanted:
        return 1.0
    return 0.5 + 0.5 * sum(mentions(thought, leaf) for leaf in wanted) / len(wanted)


def mentions(text: Text, leaf: Text) -> bool:
    """Whether `text` holds the values of `leaf`, or half of its words where it has no values."""
    if leaf.values:
        return leaf.values <= text.values
    return leaf.tokens <= text.tokens or 2 * len(leaf.stems & text.stems) >= max(1, len(leaf.stems))


def outlook(step: Step, missing: Set[str]) -> float | None:
    """1 when the reasoning names something still missing (a later tool, a parameter, a value not yet had), else 0.

    Args:
        step: The step.
        missing: Terms of the work that remains after this step; empty when nothing does, and then this is None.
    """
    if not missing:
        return None
    return float(bool((step.reasoning.terms | step.reasoning.tokens) & missing))


def diagnosed(step: Step, failed: tuple[Call, ...]) -> float | None:
    """After an error: half for a reasoning that speaks of what was wrong, half for not doing the same again.

    Args:
        step: The step.
        failed: The calls of the step before that came back with an error; without any, this is None.
    """
    if not failed:
        return None
    speaks = any(len(step.reasoning.terms & call.result.terms) >= _ENOUGH_LINKS for call in failed)
    repeats = any(same_call(call, other) for call in step.calls for other in failed)
    return 0.5 * speaks + 0.5 * (speaks and not repeats)


def same_call(one: Call, other: Call) -> bool:
    """Whether two calls ask for the same."""
    return one.name == other.name and one.arguments == other.arguments


def focused(step: Step, around: Sequence[Step], tools: Set[str]) -> float:
    """1 for a plan that keeps to the matter, towards 0 for one that lists everything, half at worst for mere length.

    Args:
        step: The step.
        around: The step before it, itself and the one after: what they use or tell is to the matter.
        tools: Names of all tools.
    """
    thought, calls = step.reasoning, [call for other in around for call in other.calls]
    used = {call.name.lower() for call in calls}
    relevant = _COUNTING.union(*(leaf.values for call in calls for leaf in leaves(call.arguments)))
    relevant = relevant.union(*(other.content.values for other in around))
    other_tools = len(thought.tokens & tools - used) - _SPARE_TOOLS
    other_values = len(thought.values - relevant) - _SPARE_VALUES
    excess = _TOOL_EXCESS * max(0, other_tools) + _VALUE_EXCESS * max(0, other_values)
    brevity = max(_LEAST_BREVITY, 1.0 - max(0, step.num_words - _BRIEF_WORDS) / _LONG_WORDS)
    return brevity / (1.0 + excess)

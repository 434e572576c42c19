"""What the offline judge must and must not pay for, over tasks of every built-in suite."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import gymnasium
import numpy as np
import pytest

from awpo_env import load_suite
from awpo_env.judges.rubric import RubricJudge
from awpo_env.types import AssistantMessage, EpisodeStatus, Message, Task, ToolCall, Transcript

SUITES = [(name, preset) for name in ("calculator", "retail") for preset in load_suite(name).presets]
NUM_TASKS = 100

Script = list[AssistantMessage | None]


@dataclass(frozen=True)
class Now:
    """What a policy knows when it has to speak."""

    script: list[AssistantMessage]
    messages: Sequence[Message]
    tools: Sequence[str]
    step: int
    rng: np.random.Generator
    sample_call: Callable[[], ToolCall]


Policy = Callable[[Now], AssistantMessage | None]
"""Says the next message; None breaks the episode off."""


@dataclass(frozen=True)
class Played:
    """An episode, whether it succeeded, and how many reference calls were made, in order."""

    transcript: Transcript
    success: bool
    reached: int


def play(suite: str, preset: str, index: int, policy: Policy, max_steps: int = 40) -> Played:
    env = make_env(suite, preset)
    observation, _ = env.reset(options={"task_id": f"train/{preset}/{index}"})
    core, rng, is_over, step = env.unwrapped, np.random.default_rng(index), False, 0
    core.action_space.seed(index)
    script = [message for turn in core.task.turns for message in turn.reference]

    def sample_call() -> ToolCall:
        return core.parser.parse(core.action_space.sample()).calls[0]

    while not is_over:
        tools = [tool["function"]["name"] for tool in core.transcript.tools]
        message = policy(Now(script, observation["messages"], tools, step, rng, sample_call))
        if message is None or step == max_steps:
            observation, _, terminated, truncated, info = core.truncate(EpisodeStatus.MAX_TOKENS)
        else:
            observation, _, terminated, truncated, info = env.step(core.parser.format(message))
        is_over, step = terminated or truncated, step + 1
    reached = num_in_order(core.task, core.transcript)
    return Played(core.transcript, info["outcome"].success, reached)


@functools.cache
def make_env(suite: str, preset: str) -> gymnasium.Env:
    return gymnasium.make("awpo/ToolUse-v0", suite=suite, preset=preset)


def num_in_order(task: Task, transcript: Transcript) -> int:
    """Length of the longest common subsequence of the reference calls and the calls made."""
    made = [
        (call["function"]["name"], call["function"]["arguments"])
        for message in transcript.messages
        for call in message.get("tool_calls", ())
    ]
    wanted = [(call.name, json.dumps(call.arguments, ensure_ascii=False)) for call in task.reference_calls()]
    longest = [0] * (len(made) + 1)
    for call in wanted:
        before = 0
        for column, other in enumerate(made, start=1):
            above = longest[column]
            longest[column] = before + 1 if call == other else max(above, longest[column - 1])
            before = above
    return longest[-1]


@functools.cache
def episodes(suite: str, preset: str, policy: Policy) -> tuple[Played, ...]:
    return tuple(play(suite, preset, index, policy) for index in range(NUM_TASKS))


def values(played: Sequence[Played], judge: RubricJudge | None = None) -> np.ndarray:
    scores = (judge or RubricJudge()).score([episode.transcript for episode in played])
    return np.array([score.value for score in scores])


# -- policies that play an edited copy of the reference ----------------------------------------------------------------


def edited(edit: Callable[[list[AssistantMessage], np.random.Generator], Script]) -> Policy:
    @functools.wraps(edit)
    def policy(now: Now) -> AssistantMessage | None:
        # The same edit at every step of an episode: the generator is only used to edit.
        script = edit(now.script, np.random.default_rng(len(str(now.script)) + len(now.messages[1]["content"])))
        return script[now.step] if now.step < len(script) else AssistantMessage()

    return policy


def call_steps(script: Script) -> list[int]:
    return [index for index, message in enumerate(script) if message.calls]


def wrong(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 7
    if isinstance(value, list):
        return [wrong(item) for item in value]
    return f"X{value}"


def spoil(message: AssistantMessage, most: int) -> AssistantMessage:
    """Make up to `most` arguments of every call wrong."""
    calls = tuple(
        ToolCall(
            call.name,
            {key: wrong(value) if i < most else value for i, (key, value) in enumerate(call.arguments.items())},
        )
        for call in message.calls
    )
    return replace(message, calls=calls)


@edited
def oracle(script, rng):
    return script


@edited
def one_wrong_argument(script, rng):
    at = rng.choice(call_steps(script))
    return [spoil(message, 1) if index == at else message for index, message in enumerate(script)]


@edited
def pasted_reasoning(script, rng):
    return [spoil(message, 99) for message in script]


@edited
def broken_off(script, rng):
    return [*script[: rng.integers(len(script))], None]


@edited
def dropped_steps(script, rng):
    return [message for message in script if not message.calls or rng.random() < 0.6]


@edited
def wrong_order(script, rng):
    calls = [message for message in script if message.calls]
    return [calls.pop() if message.calls else message for message in script]


@edited
def silent(script, rng):
    return [replace(message, reasoning="") for message in script]


@edited
def padded(script, rng):
    filler = " well let me think about it carefully once more" * 22
    return [replace(message, reasoning=message.reasoning + filler) for message in script]


@edited
def words_only(script, rng):
    return [AssistantMessage(" ".join(message.reasoning for message in script)), AssistantMessage("ok", "Done.")]


@edited
def first_call_then_break(script, rng):
    return [script[call_steps(script)[0]], None]


@edited
def first_call_then_silence(script, rng):
    return [script[call_steps(script)[0]]]


@edited
def first_call_then_done(script, rng):
    return [script[call_steps(script)[0]], *[AssistantMessage("All is done.", "Done, anything else?")] * 9]


@edited
def first_call_for_ever(script, rng):
    return [*[script[call_steps(script)[0]]] * 12, None]


# -- policies that look at the conversation ----------------------------------------------------------------------------


def empty(now):
    return AssistantMessage()


def refuse(now):
    return AssistantMessage("The policy forbids this.", "I am sorry, I cannot help with that request.")


def parrot(now):
    said = next(message["content"] for message in reversed(now.messages) if message["role"] == "user")
    return AssistantMessage(said, said)


def everything_seen(now):
    """Every tool, and every value of the conversation."""
    text = json.dumps([message["content"] for message in now.messages if message["role"] in ("user", "tool")])
    words = [word.strip('\\".,:;?!{}[]()') for word in text.split()]
    seen = dict.fromkeys(word for word in words if any(map(str.isdigit, word)) or "@" in word)
    return " ".join((*now.tools, *seen))


def list_everything(now):
    return AssistantMessage(everything_seen(now), everything_seen(now))


def list_everything_after_a_call(now):
    calls = now.script[call_steps(now.script)[0]].calls if now.step == 0 else ()
    return replace(list_everything(now), calls=calls)


def stuffed(now):
    """The right calls and messages, with every tool and every value as reasoning."""
    message = now.script[now.step]
    return replace(message, reasoning=everything_seen(now))


def prose(now):
    text = "The request of the user deserves a careful and thorough look at every detail of the matter. " * 30
    return AssistantMessage(text, text)


def random_calls(now):
    return AssistantMessage(calls=(now.sample_call(),)) if now.step < 8 else None


def oracle_then_random_calls(now):
    return now.script[now.step] if now.step < len(now.script) // 2 else random_calls(now)


each_suite = pytest.mark.parametrize(("suite", "preset"), SUITES)

DEGENERATE = (
    empty,
    refuse,
    parrot,
    prose,
    list_everything,
    list_everything_after_a_call,
    random_calls,
    words_only,
    first_call_then_break,
    first_call_then_silence,
    first_call_then_done,
    first_call_for_ever,
)


@each_suite
def test_oracle_scores_high(suite, preset):
    scores = values(episodes(suite, preset, oracle))
    assert scores.mean() >= 0.9
    assert (scores >= 0.8).mean() >= 0.99


@each_suite
@pytest.mark.parametrize("policy", DEGENERATE, ids=lambda policy: policy.__name__)
def test_degenerate_policies_score_low(suite, preset, policy):
    assert values(episodes(suite, preset, policy)).mean() <= 0.35

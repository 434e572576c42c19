"""A tabular policy over candidate messages: the reference solution and its mistakes, played in a real environment.

At every reference message the policy chooses between saying it, saying it without reasoning, and the mistakes a
demonstrator makes. What an episode is worth depends on the task and the choices alone, so it is played once and
remembered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import gymnasium
import numpy as np
import torch

import awpo_env  # noqa: F401  (registers the environments)
from awpo_env.demonstrations import spoil
from awpo_env.env import ToolUseEnv
from awpo_env.judges.rubric import RubricJudge
from awpo_env.types import AssistantMessage, UserTurn

ACTIONS = ("right", "terse", "argument", "tool", "fact", "skip", "stop", "pad")
"""``pad`` is to stop and to think at great length: what a judge who is paid by the word falls for."""

MAX_POSITIONS = 16
_PADDING = 5


@dataclass(slots=True)
class Node:
    """What is known after some choices: the table's row and the choices there are, or at the end the rewards."""

    row: int = 0
    allowed: tuple[int, ...] = ()
    children: dict[int, Node] = field(default_factory=dict)
    success: float = 0.0
    rubric: float | None = None
    words: float = 0.0

    @property
    def is_end(self) -> bool:
        return not self.allowed


class Player:
    """Plays choices on tasks of one environment and remembers every node it has seen.

    Args:
        env_id: A Gymnasium id of this project.
        preset: Of the suite's generator.
        kinds: The task kinds, which together with the position and a refusal name the rows of the table.
    """

    def __init__(self, env_id: str, preset: str, kinds: Sequence[str]) -> None:
        self._env: ToolUseEnv = gymnasium.make(env_id, preset=preset).unwrapped
        self._preset, self._kinds = preset, list(kinds)
        self._judge = RubricJudge()
        self._roots: dict[str, Node] = {}

    @property
    def num_rows(self) -> int:
        """Rows of the policy's table."""
        return len(self._kinds) * MAX_POSITIONS * 2

    def play(self, split: str, index: int, choose: Callable[[Node], int]) -> tuple[list[Node], list[int]]:
        """Play one episode; return the nodes visited, the end last, and the choices made."""
        task_id = f"{split}/{self._preset}/{index}"
        run = _Run(self._env, task_id)
        if task_id not in self._roots:
            self._roots[task_id] = self._node(run.at([]))
        nodes, choices = [self._roots[task_id]], []
        while not nodes[-1].is_end:
            choices.append(choose(nodes[-1]))
            children = nodes[-1].children
            if choices[-1] not in children:
                children[choices[-1]] = self._node(run.at(choices))
            nodes.append(children[choices[-1]])
        return nodes, choices

    def _node(self, run: _Run) -> Node:
        if run.outcome is None:
            kind = self._kinds.index(run.env.task.kind)
            row = (kind * MAX_POSITIONS + min(run.position, MAX_POSITIONS - 1)) * 2 + run.was_refused
            return Node(row, tuple(sorted(run.candidates())))
        transcript = run.env.transcript
        (score,) = self._judge.score([transcript])
        spoken = [message for message in transcript.messages if message["role"] == "assistant"]
        words = [len(message.get("reasoning_content", "").split()) for message in spoken]
        return Node(success=float(run.outcome.success), rubric=score.value, words=float(np.mean(words)))


class _Run:
    """One episode under way; goes on from where it is if it can, else starts again."""

    def __init__(self, env: ToolUseEnv, task_id: str) -> None:
        self.env, self._task_id, self._done = env, task_id, None

    def at(self, choices: Sequence[int]) -> _Run:
        """Bring the environment to the state after `choices`."""
        choices = list(choices)
        if self._done is None or self._done != choices[: len(self._done)]:
            self.env.reset(options={"task_id": self._task_id})
            self._script = [(turn, message) for turn in self.env.task.turns for message in turn.reference]
            self._done, self.position, self.was_refused, self.outcome = [], 0, False, None
        for choice in choices[len(self._done) :]:
            self._step(choice)
        return self

    def candidates(self) -> dict[int, AssistantMessage]:
        """The messages that can be said here, by action; what an action leaves as it should be is no candidate."""
        turn, right = self._script[self.position]
        last = turn.reference[-1]
        messages = {
            "right": right,
            "terse": replace(right, reasoning=""),
            **{name: self._spoiled(turn, right, name) for name in ("argument", "tool", "fact", "stop")},
        }
        if right.calls:
            messages["skip"] = self._script[self.position + 1][1]
            messages["pad"] = replace(last, reasoning=" ".join([right.reasoning] * _PADDING))
        found: dict[int, AssistantMessage] = {}
        for action, name in enumerate(ACTIONS):
            if name in messages and messages[name] not in found.values():
                found[action] = messages[name]
        return found

    def _spoiled(self, turn: UserTurn, message: AssistantMessage, mistake: str) -> AssistantMessage:
        key = json.dumps([self._task_id, self.position, self._done, mistake]).encode()
        rng = np.random.default_rng(list(hashlib.sha256(key).digest()[:16]))
        return spoil(self.env, turn, message, mistake, rng)

    def _step(self, choice: int) -> None:
        turn, _ = self._script[self.position]
        message = self.candidates()[choice]
        _, _, terminated, truncated, info = self.env.step(self.env.parser.format(message))
        self._done.append(choice)
        if terminated or truncated:
            self.outcome = info["outcome"]
            return
        last = self.env.transcript.messages[-1]
        self.was_refused = last["role"] == "tool" and last["content"].startswith('{"error"')
        if not message.calls:
            ends = [number for number, (other, _) in enumerate(self._script) if other is turn]
            self.position = ends[-1] + 1
        elif not self.was_refused:
            self.position += 2 if ACTIONS[choice] == "skip" else 1


class Policy:
    """A softmax over the actions of each row of a table, with weights that all rows share.

    Args:
        num_rows: Rows of the table.
        right_logit: What the right message, with reasoning or without, is preferred by at the start.
    """

    def __init__(self, num_rows: int, right_logit: float) -> None:
        self.table = torch.zeros(num_rows, len(ACTIONS), requires_grad=True)
        shared = torch.zeros(2, len(ACTIONS))
        shared[:, [ACTIONS.index("right"), ACTIONS.index("terse")]] = right_logit
        self.shared = shared.requires_grad_()
        self.parameters = [self.table, self.shared]

    def logprobs(self, rows_N: torch.Tensor, allowed_NA: torch.Tensor) -> torch.Tensor:
        """Return the log-probability of every action; -inf where it is not allowed."""
        logits_NA = self.table[rows_N] + self.shared[rows_N % 2]
        return logits_NA.masked_fill(~allowed_NA, -torch.inf).log_softmax(dim=1)

    def sampler(self, rng: np.random.Generator) -> Callable[[Node], int]:
        """Return what draws an action for a node from the policy as it is now."""
        with torch.no_grad():
            logits = (self.table + self.shared.repeat(len(self.table) // 2, 1)).numpy().copy()

        def choose(node: Node) -> int:
            weights = np.exp(logits[node.row, list(node.allowed)] - logits[node.row, list(node.allowed)].max())
            return node.allowed[int(np.searchsorted(np.cumsum(weights / weights.sum())[:-1], rng.random()))]

        return choose

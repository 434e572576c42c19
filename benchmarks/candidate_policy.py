"""A tabular policy over candidate messages: the reference solution and its mistakes, played in a real environment.

At every reference message the policy chooses between saying it, saying it without reasoning, and the mistakes a
demonstrator makes. What an episode is worth depends on the task and the choices alone, so it is played once in the
environment, judged once, and looked up ever after.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import gymnasium
import numpy as np
import torch

import awpo_env  # noqa: F401  (registers the environments)
from awpo_env.demonstrations import spoil
from awpo_env.env import ToolUseEnv
from awpo_env.judges.rubric import RubricJudge
from awpo_env.schema import says_error
from awpo_env.suites import load_suite
from awpo_env.types import AssistantMessage

ACTIONS = ("right", "terse", "argument", "tool", "fact", "stop", "pad")
"""``terse`` is right and without reasoning. ``pad`` is to stop and to think at great length: what a judge falls for who
is paid by the word."""

_STYLES = frozenset({"terse", "stop", "pad"})
MAX_POSITIONS = 16
MAX_CHOICES = 32
_PADDING = 5


@dataclass(frozen=True, slots=True)
class Played:
    """Episodes of a batch, one a row.

    Attributes:
        rows_N: The row at each decision of all episodes, in the tables of all policies one after the other.
        allowed_NA: The choices there were.
        choices_N: The choice made.
        episode_N: Which episode the decision belongs to.
        success_B: 1 for a solved task, else 0.
        rubric_B: The rubric's score, NaN where it is missing.
        words_B: Words of reasoning a message.
    """

    rows_N: np.ndarray
    allowed_NA: np.ndarray
    choices_N: np.ndarray
    episode_N: np.ndarray
    success_B: np.ndarray
    rubric_B: np.ndarray
    words_B: np.ndarray


class Player:
    """Plays choices on tasks of one environment and remembers every node it has seen.

    Args:
        env_id: A Gymnasium id of this project.
        preset: Of the suite's generator.
    """

    def __init__(self, env_id: str, preset: str) -> None:
        self._env: ToolUseEnv = gymnasium.make(env_id, preset=preset).unwrapped
        suite = load_suite(env_id.removeprefix("awpo/").partition("-")[0].lower())
        # Task kinds, which together with the position and a refusal name the rows of the table.
        self._kinds = sorted({suite.task(f"train/{preset}/{index}").kind for index in range(60)})
        self._preset = preset
        self._judge = RubricJudge()
        self._roots: dict[str, int] = {}
        self._rows: list[int] = []
        self._allowed: list[list[bool]] = []
        self._children: list[list[int]] = []
        self._ends: list[tuple[float, float, float]] = []
        self._said: list[dict[int, AssistantMessage]] = []
        self._arrays: tuple[np.ndarray, ...] | None = None

    @property
    def num_rows(self) -> int:
        """Rows of the policy's table."""
        return len(self._kinds) * MAX_POSITIONS * 2

    def play(self, task_ids: Sequence[str], logits_SRA: np.ndarray, luck_SBL: np.ndarray) -> Played:
        """Play one episode of each task, for each of S policies; an episode does not depend on what was seen before.

        Args:
            task_ids: ``split/index``; those of the first policy, then those of the second, and so on.
            logits_SRA: The policies', for every row.
            luck_SBL: Numbers in [0, 1) that decide the choices of each policy's B episodes.
        """
        num_policies, num_episodes, _ = luck_SBL.shape
        luck_BL = luck_SBL.reshape(num_policies * num_episodes, MAX_CHOICES)
        logits_RA = logits_SRA.reshape(-1, len(ACTIONS))
        first_row_B = np.repeat(np.arange(num_policies) * self.num_rows, num_episodes)
        nodes_B = np.array([self._root(task_id) for task_id in task_ids])
        path_BL = np.full((len(task_ids), MAX_CHOICES + 1), -1)
        choices_BL = np.full((len(task_ids), MAX_CHOICES), -1)
        path_BL[:, 0] = nodes_B
        rows, allowed_XA, children_XA = self._known()
        open_B = np.flatnonzero(allowed_XA[nodes_B].any(axis=1))
        for depth in range(MAX_CHOICES):
            if not len(open_B):
                break
            here = path_BL[open_B, depth]
            choices = _choose(logits_RA[first_row_B[open_B] + rows[here]], allowed_XA[here], luck_BL[open_B, depth])
            choices_BL[open_B, depth] = choices
            nexts = children_XA[here, choices]
            for episode in open_B[nexts < 0]:
                logits = logits_SRA[episode // num_episodes]
                self._finish(task_ids[episode], depth, path_BL[episode], choices_BL[episode], logits, luck_BL[episode])
            path_BL[open_B[nexts >= 0], depth + 1] = nexts[nexts >= 0]
            goes_on = (nexts >= 0) & allowed_XA[nexts].any(axis=1)
            open_B = open_B[goes_on]
        return self._played(path_BL, choices_BL, first_row_B)

    def _played(self, path_BL: np.ndarray, choices_BL: np.ndarray, first_row_B: np.ndarray) -> Played:
        rows, allowed_XA, _ = self._known()
        episode_N, depth_N = np.nonzero(choices_BL >= 0)
        nodes_N = path_BL[episode_N, depth_N]
        last_B = path_BL[np.arange(len(path_BL)), (choices_BL >= 0).sum(axis=1)]
        ends_B3 = np.array([self._ends[node] for node in last_B])
        return Played(
            first_row_B[episode_N] + rows[nodes_N],
            allowed_XA[nodes_N],
            choices_BL[episode_N, depth_N],
            episode_N,
            *ends_B3.T,
        )

    def _finish(
        self,
        task_id: str,
        depth: int,
        path_L: np.ndarray,
        choices_L: np.ndarray,
        logits_RA: np.ndarray,
        luck_L: np.ndarray,
    ) -> None:
        """Play an episode on from a choice that nobody has made before."""
        node, run = int(path_L[0]), _Run(self._env, self._full_id(task_id))
        for choice, child in zip(choices_L[:depth], path_L[1 : depth + 1], strict=True):
            run.step(int(choice), self._said[node])
            node = int(child)
        while any(self._allowed[node]):
            if choices_L[depth] < 0:
                logits_1A, allowed_1A = logits_RA[None, self._rows[node]], np.array([self._allowed[node]])
                choices_L[depth] = _choose(logits_1A, allowed_1A, luck_L[depth : depth + 1])[0]
            choice = int(choices_L[depth])
            run.step(choice, self._said[node])
            if self._children[node][choice] < 0:
                self._children[node][choice] = self._add(run)
            node = self._children[node][choice]
            depth += 1
            path_L[depth] = node

    def _full_id(self, task_id: str) -> str:
        split, _, index = task_id.partition("/")
        return f"{split}/{self._preset}/{index}"

    def _root(self, task_id: str) -> int:
        if task_id not in self._roots:
            self._roots[task_id] = self._add(_Run(self._env, self._full_id(task_id)))
        return self._roots[task_id]

    def _known(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._arrays is None or len(self._arrays[0]) != len(self._rows):
            self._arrays = np.array(self._rows), np.array(self._allowed), np.array(self._children)
        return self._arrays

    def _add(self, run: _Run) -> int:
        row, candidates, end = 0, {}, (np.nan, np.nan, np.nan)
        if run.outcome is None:
            candidates = run.candidates()
            kind = self._kinds.index(run.env.task.kind)
            row = (kind * MAX_POSITIONS + min(run.position, MAX_POSITIONS - 1)) * 2 + run.was_refused
        else:
            (score,) = self._judge.score([run.env.transcript])
            spoken = [message for message in run.env.transcript.messages if message["role"] == "assistant"]
            words = float(np.mean([len(message.get("reasoning_content", "").split()) for message in spoken]))
            end = float(run.outcome.success), np.nan if score.value is None else score.value, words
        self._rows.append(row)
        self._allowed.append([action in candidates for action in range(len(ACTIONS))])
        self._said.append(candidates)
        self._children.append([-1] * len(ACTIONS))
        self._ends.append(end)
        return len(self._rows) - 1


def _choose(logits_BA: np.ndarray, allowed_BA: np.ndarray, luck_B: np.ndarray) -> np.ndarray:
    weights_BA = np.where(allowed_BA, np.exp(logits_BA - logits_BA.max(axis=1, keepdims=True)), 0.0)
    below_BA = np.cumsum(weights_BA, axis=1)
    chosen_B = (below_BA <= luck_B[:, None] * below_BA[:, -1:]).sum(axis=1)
    return np.minimum(chosen_B, len(ACTIONS) - 1)


class _Run:
    """One episode under way in the environment."""

    def __init__(self, env: ToolUseEnv, task_id: str) -> None:
        self.env, self._task_id = env, task_id
        env.reset(options={"task_id": task_id})
        self._script = [(turn, message) for turn in env.task.turns for message in turn.reference]
        self._done: list[int] = []
        self.position, self.was_refused, self.outcome = 0, False, None

    def step(self, choice: int, candidates: Mapping[int, AssistantMessage]) -> None:
        """Say one of the `candidates` of here."""
        turn, _ = self._script[self.position]
        message = candidates[choice]
        _, _, terminated, truncated, info = self.env.step(self.env.parser.format(message))
        self._done.append(choice)
        if terminated or truncated:
            self.outcome = info["outcome"]
            return
        last = self.env.transcript.messages[-1]
        self.was_refused = last["role"] == "tool" and says_error(last["content"])
        if not message.calls:
            self.position = max(number for number, (other, _) in enumerate(self._script) if other is turn) + 1
        elif not self.was_refused:
            self.position += 1

    def candidates(self) -> dict[int, AssistantMessage]:
        """The messages that can be said here, by action; what an action leaves as it should be is no candidate."""
        turn, right = self._script[self.position]
        # What is spoiled depends on the task and the choices so far, on nothing else.
        rng = np.random.default_rng(zlib.crc32(json.dumps([self._task_id, self._done]).encode()))
        mistakes = {name: spoil(self.env, turn, right, name, rng) for name in ("argument", "tool", "fact", "stop")}
        messages = {"right": right, "terse": replace(right, reasoning=""), **mistakes}
        if right.calls:
            messages["pad"] = replace(turn.reference[-1], reasoning=" ".join([right.reasoning] * _PADDING))
        found: dict[int, AssistantMessage] = {}
        for action, name in enumerate(ACTIONS):
            if name in messages and messages[name] not in found.values():
                found[action] = messages[name]
        return found


class Policies:
    """Softmax policies over the actions of each row of a table; the weights of a style are shared by a policy's rows.

    What is right has to be learnt for every kind of task and position; to stop, to pad or to say nothing first can be
    learnt once for all, as a language model would. Policies of several seeds stand side by side for speed alone.

    Args:
        num_policies: S.
        num_rows: Rows of each table.
        right_logit: What the right message, with reasoning or without, is preferred by at the start.
    """

    def __init__(self, num_policies: int, num_rows: int, right_logit: float) -> None:
        tables = torch.zeros(num_policies, num_rows, len(ACTIONS))
        tables[..., [ACTIONS.index("right"), ACTIONS.index("terse")]] = right_logit
        self.tables = tables.requires_grad_()
        self.styles = torch.zeros(num_policies, 1, len(ACTIONS), requires_grad=True)
        self.parameters = [self.tables, self.styles]
        self._is_style = torch.tensor([action in _STYLES for action in ACTIONS])

    def take_styles(self, other: Policies) -> None:
        """Have the habits of other policies."""
        self.styles.data.copy_(other.styles.data)

    def logprobs(self, rows_N: torch.Tensor, allowed_NA: torch.Tensor) -> torch.Tensor:
        """Return the log-probability of every action; -inf where it is not allowed."""
        logits_NA = self._logits().flatten(0, 1)[rows_N]
        return logits_NA.masked_fill(~allowed_NA, -torch.inf).log_softmax(dim=1)

    def logits(self) -> np.ndarray:
        """Return a copy of the logits, of shape (S, R, A)."""
        return self._logits().detach().numpy().copy()

    def _logits(self) -> torch.Tensor:
        return self.tables + self._is_style * self.styles

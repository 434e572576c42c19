"""The environment: a Gymnasium episode of assistant messages, validated tool calls and scripted users."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium import spaces

from awpo_env.errors import UsageError
from awpo_env.execution import BackendCrash, close, observation_text, run_call
from awpo_env.hosting import backend_builder, built_or_broken, prepare_goal
from awpo_env.json_text import encodable
from awpo_env.limits import Limits, TokenCounter, estimate_tokens, shorten
from awpo_env.outcomes import MALFORMED, check_weights, score_outcome
from awpo_env.parsing import Parser, get_parser
from awpo_env.rendering import render_messages
from awpo_env.schema import error_object
from awpo_env.sources import TaskSource
from awpo_env.spaces import AssistantText, Declarations, Messages
from awpo_env.suites import Suite, load_suite
from awpo_env.types import (
    JSON,
    AssistantMessage,
    EpisodeStatus,
    ErrorCode,
    MalformedCall,
    Message,
    Task,
    ToolCall,
    Transcript,
)
from awpo_env.users import ScriptedUser, User

__all__ = ["Limits", "ToolUseEnv"]

_TIMEOUTS_IN_A_ROW = 2


class ToolUseEnv(gymnasium.Env[dict[str, Any], str]):
    """Tool use over several turns: text in, messages out, an outcome reward at the end.

    An action is the text of one assistant message. With calls in it, they are validated against their JSON Schema and
    run, and the results come back; without, the user's turn ends and the user speaks again or the episode is over.
    Observations are ``{"messages", "new_messages", "tools"}``; `info` has ``status``, ``task_id`` and at the end
    ``outcome`` (an `Outcome`, or None when the environment itself broke).

    Args:
        suite: What `load_suite` takes, or a loaded suite.
        split: ``train`` or ``test``.
        preset: The generator's difficulty preset; None is the suite's first.
        tasks: Ids of the tasks to draw from; None draws from everything the split has: the generator's tasks, or the
            fixed ones of a suite without a generator.
        outcome: The outcome reward: a name or weights by name (`awpo_env.outcomes.OUTCOMES`).
        parser: The layout of assistant text: a name in `awpo_env.parsing.PARSERS`, or a `Parser`.
        limits: When an episode or a result is cut off; a mapping of `Limits` fields will do.
        tool_timeout: Most seconds a call may take; None is no limit. Two calls in a row that take longer end the
            episode as ``environment_error``.
        tool_isolation: Where tools run that have a time limit, are asynchronous or say that they wait: ``thread``, or
            ``process`` for a backend that may crash or cannot be interrupted. All others run in place.
        tool_memory_mb: Most MiB of address space of such a process; None is 4096.
        make_user: Builds who speaks for the user of a task.
        render_mode: ``ansi`` returns the transcript, ``human`` prints it.

    Attributes:
        answers_at_once: Whether no step waits for a tool; if it does, others had better go on meanwhile.
        count_tokens: Counts the tokens of results; an estimate until whoever has a tokenizer replaces it.
        run_call: Runs one call, as `awpo_env.execution.run_call` does; wrappers may put themselves in front.
        task_ids: Ids of the tasks it draws from; empty when they are generated without end.
        tools: The tools of the episode: those of the suite, or the task's own.

    Raises:
        UsageError: An argument is impossible; one sentence says what was expected.
    """

    metadata = {"render_modes": ["ansi", "human"], "render_fps": 1}  # noqa: RUF012 - Gymnasium's own convention

    def __init__(
        self,
        suite: str | Suite,
        *,
        split: str = "train",
        preset: str | None = None,
        tasks: Sequence[str] | None = None,
        outcome: str | Mapping[str, float] = "success",
        parser: str | Parser = "hermes",
        limits: Limits | Mapping[str, int] | None = None,
        tool_timeout: float | None = None,
        tool_isolation: str = "thread",
        tool_memory_mb: int | None = None,
        make_user: Callable[[Task], User] = ScriptedUser,
        render_mode: str | None = None,
    ) -> None:
        self.suite = load_suite(suite) if isinstance(suite, str) else suite
        self._source = TaskSource(self.suite, tasks, split, preset)
        self.task_ids = self._source.ids
        self._weights = {outcome: 1.0} if isinstance(outcome, str) else dict(outcome)
        check_weights(self._weights, self.suite.outcomes)
        self.parser = get_parser(parser) if isinstance(parser, str) else parser
        self._limits = limits if isinstance(limits, Limits) else Limits.from_mapping(limits or {})
        self._build = backend_builder(self.suite, tool_timeout, tool_isolation, tool_memory_mb)
        self.tool_timeout = tool_timeout
        self.answers_at_once = self._build is self.suite.backend
        self.tools = self.suite.tools
        self.count_tokens: TokenCounter = estimate_tokens
        self.run_call = run_call
        self._make_user = make_user
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UsageError(f"render_mode {render_mode!r} is unknown; expected one of {self.metadata['render_modes']}")
        self.render_mode = render_mode
        self.action_space = AssistantText(self.suite.tools, self.parser)
        self.observation_space = spaces.Dict(
            messages=Messages(),
            new_messages=Messages(),
            tools=Declarations(list(self.suite.tools.declarations.values())),
        )
        self._backend: Any = None
        self._status = EpisodeStatus.COMPLETED
        self._messages: list[Message] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start the task ``options["task_id"]``, or one drawn from the split with `self.np_random`."""
        super().reset(seed=seed)
        if unknown := [name for name in options or {} if name != "task_id"]:
            raise UsageError(f"unknown reset option {unknown[0]!r}; expected 'task_id'")
        task_id = (options or {}).get("task_id")
        self.task = self.suite.task(task_id if task_id is not None else self._source.draw(self.np_random))
        # The next backend comes before the last one goes, as remote ones hand a connection on.
        last, self._backend = self._backend, built_or_broken(self._build, self.task.state)
        if last is not None:
            close(last)
        self._goal = prepare_goal(self._build, self.task) if self.suite.runs_calls else lambda: None
        self._user = self._make_user(self.task)
        self.tools = self.action_space.tools = self.suite.tools_of(self.task)
        self._available = list(self.task.tools or self.tools)
        self._status, self._outcome, self._texts = EpisodeStatus.RUNNING, None, []
        self._num_turns = self._num_turns_of_request = self._num_calls = self._num_parse_errors = self._num_timeouts = 0
        rules = self.task.policy or self.suite.policy
        self._messages = [{"role": "system", "content": encodable(rules)}] if rules else []
        self._messages.append({"role": "user", "content": encodable(self._user.next(self._messages) or "")})
        return self._observation(0), self._info()

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Take one assistant message and return what comes back. Lone surrogates in it become U+FFFD.

        Raises:
            UsageError: The episode is over, or the action is not text.
        """
        if not isinstance(action, str):
            raise UsageError(f"action is {type(action).__name__}; expected the text of an assistant message")
        self._require_running()
        num_before = len(self._messages)
        self._texts.append(encodable(action))
        message = self.parser.parse(self._texts[-1])
        self._num_turns += 1
        self._num_turns_of_request += 1
        self._append_assistant(message)
        problem = None
        try:
            if message.calls and self.suite.runs_calls:
                self._run_calls(message)
            else:
                self._num_calls += len(message.calls)
                self._end_user_turn()
        except BackendCrash as crash:
            problem, self._status = str(crash), EpisodeStatus.ENVIRONMENT_ERROR
        self._check_limits(message)
        return self._result(num_before, problem)

    def truncate(self, status: EpisodeStatus) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """End the running episode from outside, as whoever counts tokens does; returns what `step` returns.

        Raises:
            UsageError: The episode is over, or the status is not that of a truncated episode.
        """
        self._require_running()
        if status in (EpisodeStatus.RUNNING, EpisodeStatus.COMPLETED):
            raise UsageError(f"status {str(status)!r} is no truncation; expected for example 'max_tokens'")
        self._status = EpisodeStatus(status)
        return self._result(len(self._messages), None)

    @property
    def transcript(self) -> Transcript:
        """The episode so far, for judges and logs."""
        tools = self.tools.shown(self._available)
        return Transcript(self.task, tuple(self._messages), tuple(tools), self._status, tuple(self._texts))

    def render(self) -> str | None:
        """Return (``ansi``) or print (``human``) the transcript."""
        if self.render_mode is None:
            raise UsageError("render() needs a render_mode; make the environment with render_mode='ansi' or 'human'")
        text = render_messages(self._messages)
        if self.render_mode == "human":
            print(text)
            return None
        return text

    def close(self) -> None:
        """Release the backend and the process it may live in; may be called twice."""
        if self._backend is not None:
            close(self._backend)
            self._backend = None
        if not self.answers_at_once:
            close(self._build)

    def _require_running(self) -> None:
        if self._status is not EpisodeStatus.RUNNING or self._backend is None:
            status = "closed" if self._status is EpisodeStatus.RUNNING else self._status
            raise UsageError(f"no episode is running ({status}); call reset() first")

    def _append_assistant(self, message: AssistantMessage) -> None:
        entry: Message = {"role": "assistant", "content": message.content}
        if message.reasoning:
            entry["reasoning_content"] = message.reasoning
        if message.calls:
            entry["tool_calls"] = [
                {"id": f"call_{self._num_calls + offset}", "type": "function", "function": _function(call)}
                for offset, call in enumerate(message.calls)
            ]
        self._messages.append(entry)

    def _run_calls(self, message: AssistantMessage) -> None:
        for call in message.calls:
            call_id, self._num_calls = f"call_{self._num_calls}", self._num_calls + 1
            if self._num_calls > self._limits.max_tool_calls:
                result = error_object(ErrorCode.LIMIT, f"only {self._limits.max_tool_calls} tool calls are allowed")
            else:
                result, has_run = self.run_call(self._backend, self.tools, call, self._available)
                self._count_timeouts(None if has_run else result["error"])
            name = call.name if isinstance(call, ToolCall) else MALFORMED
            content = shorten(observation_text(result), self._limits.max_result_tokens, self.count_tokens)
            self._messages.append({"role": "tool", "tool_call_id": call_id, "name": name, "content": content})

    def _count_timeouts(self, error: Mapping[str, JSON] | None) -> None:
        if error is None or error["code"] == ErrorCode.TOOL_ERROR:
            self._num_timeouts = 0
        elif error["code"] == ErrorCode.TIMEOUT:
            self._num_timeouts += 1
            if self._num_timeouts == _TIMEOUTS_IN_A_ROW:
                raise BackendCrash(f"{self._num_timeouts} calls in a row took too long: {error['message']}")

    def _end_user_turn(self) -> None:
        try:
            said = self._user.next(self._messages)
        except Exception as error:
            raise BackendCrash(f"the user raised {type(error).__name__}: {error}") from error
        if said is None:
            self._status = EpisodeStatus.COMPLETED
            return
        turn = sum(message["role"] == "user" for message in self._messages)
        if turn < len(self.task.turns) and self.task.turns[turn].new_tools:
            self._show_tools(self.task.turns[turn].new_tools)
        self._messages.append({"role": "user", "content": encodable(said)})
        self._num_turns_of_request = 0

    def _show_tools(self, names: Sequence[str]) -> None:
        self._available += [name for name in names if name not in self._available]
        lines = [json.dumps(self.tools.declarations[name], ensure_ascii=False) for name in names]
        self._messages.append({"role": "system", "content": "New tools:\n" + "\n".join(lines)})

    def _check_limits(self, message: AssistantMessage) -> None:
        is_unreadable = any(isinstance(call, MalformedCall) for call in message.calls)
        self._num_parse_errors = self._num_parse_errors + 1 if is_unreadable else 0
        if self._status is not EpisodeStatus.RUNNING:
            return
        if self._num_parse_errors >= self._limits.max_parse_errors:
            self._status = EpisodeStatus.PARSE_ERROR_LIMIT
        elif self._num_calls > self._limits.max_tool_calls:
            self._status = EpisodeStatus.MAX_TOOL_CALLS
        elif self._limits.are_reached(self._num_turns, self._num_turns_of_request):
            self._status = EpisodeStatus.MAX_TURNS

    def _result(self, num_before: int, problem: str | None) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        is_over = self._status is not EpisodeStatus.RUNNING
        if is_over and self._status is not EpisodeStatus.ENVIRONMENT_ERROR:
            try:
                # In this order: behind a server, the reference may be played on the very state that is read here.
                final = self._backend.snapshot()
                goal = self._goal()
            except Exception as error:
                problem = f"comparing with the reference solution raised {type(error).__name__}: {error}"
                self._status = EpisodeStatus.ENVIRONMENT_ERROR
            else:
                self._outcome = score_outcome(self.transcript, final, goal, self._weights, self.suite.outcomes)
        info = self._info()
        if is_over:
            info["outcome"] = self._outcome
        if problem is not None:
            info["error"] = problem
        terminated = self._status is EpisodeStatus.COMPLETED
        reward = self._outcome.value if self._outcome is not None else 0.0
        return self._observation(num_before), reward, terminated, is_over and not terminated, info

    def _observation(self, num_before: int) -> dict[str, Any]:
        # Users keep observations, so each has messages of its own; declarations cannot be changed.
        return {
            "messages": tuple(map(_copy, self._messages)),
            "new_messages": tuple(map(_copy, self._messages[num_before:])),
            "tools": self.tools.shown(self._available),
        }

    def _info(self) -> dict[str, Any]:
        return {"status": str(self._status), "task_id": self.task.id, "kind": self.task.kind}


def _copy(message: Message) -> Message:
    """Copy everything of a message that can be changed; texts are shared, and may be long."""
    if "tool_calls" not in message:
        return message.copy()
    calls = [{**call, "function": call["function"].copy()} for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}


def _function(call: ToolCall | MalformedCall) -> dict[str, JSON]:
    if isinstance(call, MalformedCall):
        return {"name": MALFORMED, "arguments": call.text}
    return {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}

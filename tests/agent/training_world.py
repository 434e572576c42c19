"""Environments, judges and engines for training a random model: rewards that vary, and trouble on demand."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import time
from typing import Any

from awpo_agent.engines.base import EngineFailure
from awpo_agent.engines.hf import TransformersEngine
from awpo_env.env import ToolUseEnv
from awpo_env.types import Outcome, Score, Transcript


def fraction(messages: Any, salt: str) -> float:
    """A number in [0, 1) that depends on every character of a conversation."""
    text = salt + json.dumps(messages, ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


class VerdictEnv(ToolUseEnv):
    """The calculator with outcomes drawn from the text of the episode: a random model solves nothing by itself."""

    def __init__(self, **settings: Any) -> None:
        super().__init__("calculator", **{"limits": {"max_turns": 2}, **settings})

    def step(self, action: str) -> Any:
        return self._decided(*super().step(action))

    def truncate(self, status: Any) -> Any:
        return self._decided(*super().truncate(status))

    def _decided(self, observation: Any, reward: float, terminated: bool, truncated: bool, info: Any) -> Any:
        if info.get("outcome") is not None:
            reward = float(fraction(self.transcript.messages, "outcome") < 0.5)
            info["outcome"] = Outcome(reward, 0.0, 1.0, reward == 1.0, {"success": reward})
        return observation, reward, terminated, truncated, info


class UnevenEnv(VerdictEnv):
    """On the second process, episodes are as the environment variable UNEVEN says: long, broken or without a token."""

    def __init__(self) -> None:
        self._way = os.environ["UNEVEN"] if os.environ.get("RANK") == "1" else "as ever"
        super().__init__()

    def reset(self, **options: Any) -> Any:
        observation, info = super().reset(**options)
        if num_words := {"long": 60, "without a token": 400}.get(self._way):
            first = observation["messages"][0]
            observation["messages"] = [
                {**first, "content": first["content"] + " divide" * num_words},
                *observation["messages"][1:],
            ]
        return observation, info

    def _decided(self, *answer: Any) -> Any:
        observation, reward, terminated, truncated, info = super()._decided(*answer)
        if self._way == "long":
            time.sleep(0.2)
        if self._way == "broken":
            info["outcome"] = None
        return observation, reward, terminated, truncated, info


class FailingEnv(VerdictEnv):
    """Only who calls a tool succeeds: the tasks' own solutions, and no random model."""

    def _decided(self, *answer: Any) -> Any:
        observation, reward, terminated, truncated, info = super()._decided(*answer)
        if info.get("outcome") is not None:
            reward = float(calls_a_tool(self.transcript))
            info["outcome"] = Outcome(reward, 0.0, 1.0, reward == 1.0, {"success": reward})
        return observation, reward, terminated, truncated, info


def calls_a_tool(transcript: Transcript) -> bool:
    """Whether any tool has answered with something else than an error."""
    answers = [message["content"] for message in transcript.messages if message["role"] == "tool"]
    return any(not answer.startswith('{"error"') for answer in answers)


class VerdictJudge:
    """Scores that vary with the text of the episode; about a tenth of them are missing."""

    def score(self, transcripts: Any) -> list[Score]:
        return [self._one(transcript) for transcript in transcripts]

    def _one(self, transcript: Transcript) -> Score:
        value = fraction(transcript.messages, "judge")
        return Score.missing("one in ten") if value < 0.1 else Score(value)


class FairJudge(VerdictJudge):
    """The same, but who calls a tool has the best score."""

    def _one(self, transcript: Transcript) -> Score:
        return Score(1.0) if calls_a_tool(transcript) else super()._one(transcript)


class LostJudge(VerdictJudge):
    """On the second process it is gone for good after two steps of eight episodes and two solutions."""

    def __init__(self) -> None:
        self._num_scored = 0

    def score(self, transcripts: Any) -> list[Score]:
        self._num_scored += len(transcripts)
        if os.environ.get("RANK") == "1" and self._num_scored > 20:
            raise EngineFailure("the server is gone")
        return super().score(transcripts)


class StuckEngine(TransformersEngine):
    """In the third step it never answers, and SIGTERM comes."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, max_rows=16, max_length=320)

    async def generate(self, prompt_ids: Any, sampling: Any) -> Any:
        if sampling.key[1] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        return await super().generate(prompt_ids, sampling)

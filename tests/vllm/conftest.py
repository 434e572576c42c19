"""Real vLLM: servers of this machine with time limits, and episodes whose log-probabilities the learner checks."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from judge_by_heart import RUBRIC, save_judge

from awpo_agent.chat import ChatTokens
from awpo_agent.engines.base import Engine
from awpo_agent.losses import sampled_logprobs
from awpo_agent.rollout import EnvironmentPool, EpisodeKey, RolloutLimits, collect
from awpo_agent.train import load_policy
from awpo_agent.types import Rollout
from awpo_env.catalogue import make

MAX_LENGTH = 1536
START_LIMIT_S = 240.0
FOLDER = Path(__file__).parent
ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
}

collect_ignore_glob = [] if importlib.util.find_spec("vllm") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.filterwarnings("default"))  # vLLM's own are many, and not ours to mend


class ServerProcess:
    """A ``vllm serve`` process on the loopback interface.

    Args:
        model: A checkpoint folder.
        log: Its output is appended here.
        flags: More flags.
        port: Where it listens; by default a free one.
    """

    def __init__(self, model: Path, log: Path, flags: tuple[str, ...] = (), port: int | None = None) -> None:
        self.model, self.log, self.flags = model, log, flags
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_killed(self) -> bool:
        return self._process is None

    def start(self) -> None:
        """Start it, without waiting until it answers."""
        command = [str(Path(sys.executable).with_name("vllm")), "serve", str(self.model)]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--dtype", "float32", "--enforce-eager"]
        command += ["--max-model-len", "2048", "--kv-cache-memory-bytes", str(256 * 2**20)]
        command += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", "2048"]
        command += ["--enable-scale-out", "--logprobs-mode", "processed_logprobs", *self.flags]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, **ENVIRONMENT}, start_new_session=True
            )

    def wait(self, limit_s: float = START_LIMIT_S) -> None:
        """Return once it answers; fail with the end of its log if it ends or the limit passes before."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                pytest.fail(f"vllm serve ended:\n{self.tail()}")
            with contextlib.suppress(urllib.error.URLError, TimeoutError, ConnectionError):
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                return
            time.sleep(0.5)
        pytest.fail(f"vllm serve does not answer after {limit_s:.0f} s:\n{self.tail()}")

    def kill(self) -> None:
        """End it at once, with every process it started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=30)
            self._process = None

    def tail(self, num_lines: int = 30) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-num_lines:])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def base_model() -> Path:
    """The folder of the model that ships."""
    return Path(str(resources.files("awpo_agent.base_model")))


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers, ``start_server(folder, *flags)``; all of them end with the session."""
    started: list[ServerProcess] = []

    def start(model: Path, *flags: str) -> ServerProcess:
        server = ServerProcess(model, tmp_path_factory.mktemp("vllm") / "server.log", flags)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def vllm_server(base_model: Path, start_server: Callable[..., ServerProcess]) -> ServerProcess:
    """A server of the model that ships; it has ``url`` and ``log``."""
    server = start_server(base_model, "--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    server.wait()
    return server


@pytest.fixture(scope="session")
def rubric(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a short rubric."""
    path = tmp_path_factory.mktemp("rubric") / "short.yaml"
    path.write_text(RUBRIC)
    return path


@pytest.fixture(scope="session")
def judge_model(rubric: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a judge model that knows some transcripts by heart."""
    folder = tmp_path_factory.mktemp("judge_model")
    save_judge(rubric, folder)
    return folder


@pytest.fixture
def policy() -> tuple[Any, ChatTokens]:
    """The model that ships, freshly loaded, and its chat template."""
    model, tokenizer = load_policy("base")
    return model, ChatTokens(tokenizer)


@pytest.fixture(scope="session")
def play() -> Callable[..., list[Rollout]]:
    return _play


def _play(
    engine: Engine,
    chat: ChatTokens,
    num_episodes: int,
    preset: str = "quickstart",
    temperature: float = 1.0,
    **rest: Any,
) -> list[Rollout]:
    """Play retail episodes of several turns, all at the same time; prompts of the preset ``full`` are long."""
    keys = [EpisodeKey(0, 0, episode, task_seed=episode // 2) for episode in range(num_episodes)]
    pool = EnvironmentPool(functools.partial(make, "awpo/Retail-v0", split="train", preset=preset))
    limits = RolloutLimits(MAX_LENGTH, max_turn_length=96, temperature=temperature)
    with contextlib.closing(pool):
        return collect(pool, engine, chat, keys, limits, **rest)


@pytest.fixture(scope="session")
def largest_gap() -> Callable[..., float]:
    return _largest_gap


def _largest_gap(model: Any, rollouts: Sequence[Rollout], temperature: float = 1.0) -> float:
    """Return the largest difference between the engine's and the learner's log-probability of a sampled token."""
    gaps = []
    for rollout in rollouts:
        ids, is_sampled = torch.tensor([rollout.ids]), torch.tensor([rollout.is_sampled])
        with torch.no_grad():
            logprobs, _ = sampled_logprobs(model, ids, is_sampled, temperature)
        gaps.append((logprobs - torch.tensor(rollout.logprobs)[is_sampled[0]]).abs().max())
    return float(torch.stack(gaps).max())


@pytest.fixture(scope="session")
def disturb() -> Callable[..., None]:
    return _disturb


def _disturb(model: Any, seed: int, size: float = 0.01) -> None:
    """Change every weight a little, as an update would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * parameter.std() * torch.randn(parameter.shape, generator=generator))

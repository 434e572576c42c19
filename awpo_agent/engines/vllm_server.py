"""Engine that samples on `vllm serve` processes: least-loaded routing, weights by folder, servers that come back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter
from torch import nn

from awpo_agent.engines.base import Completion, Sampling, check_request
from awpo_agent.engines.vllm_client import ServerLost, VLLMServer
from awpo_agent.engines.weights import WeightsFolder
from awpo_env.errors import UsageError
from awpo_env.judges.background import BackgroundLoop

_MOST_LOSSES = 5  # of one completion, each on a server that had just answered
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 10.0

_log = logging.getLogger(__name__)


class VLLMServerEngine:
    """Sample on one or several servers that run the model in processes of their own, on this machine or others.

    A conversation starts on the server that samples the fewest and stays there, where its earlier turns are cached. A
    server that fails loses its conversations to the others. Where there is none, everybody waits: it is asked again
    with growing pauses, gets the newest weights before anything else when it is back, and the completion that was lost
    is sampled anew with the same seed.

    Servers belong to one engine: two that push weights to one server take it from each other. vLLM is not needed on
    this side.

    Args:
        model: A Hugging Face causal language model, the one the servers were started with.
        urls: Where they listen, ``http://host:port`` each.
        folder: Weights are handed over here, so the servers see it under the same path. It is emptied.
        max_length: Longest conversation in tokens; completions end there with ``length``. By default the model's limit.
        dtype: In which weights are handed over, that of the servers; by default the module's.
        server_timeout_s: How long to wait for a server when none is there.
        request_timeout_s: Longest time for one answer, a whole turn of a conversation.
        logs: Files the servers' outputs go to, in the order of `urls`; their ends are quoted in errors.

    Raises:
        UsageError: There is no address, or one is none.
    """

    def __init__(
        self,
        model: nn.Module,
        urls: Sequence[str],
        folder: Path,
        *,
        max_length: int | None = None,
        dtype: torch.dtype | None = None,
        server_timeout_s: float = 240.0,
        request_timeout_s: float = 600.0,
        logs: Sequence[Path] = (),
    ) -> None:
        if not urls:
            raise UsageError("there is no vLLM server, expected at least one address; start one with 'vllm serve'")
        if wrong := [url for url in urls if not url.startswith(("http://", "https://"))]:
            raise UsageError(f"{wrong[0]!r} is no address of a vLLM server, expected http://host:port")
        self.max_length = max_length or model.config.max_position_embeddings
        self._weights = WeightsFolder(model, folder, dtype)
        self._server_timeout_s = server_timeout_s
        self._background = BackgroundLoop()
        files = [*logs, *[None] * len(urls)]
        self.servers = [VLLMServer(url, request_timeout_s, log) for url, log in zip(urls, files, strict=False)]
        self._locks = {server: asyncio.Lock() for server in self.servers}
        self._home: dict[tuple[int, int, int], VLLMServer] = {}

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Sample a continuation of `prompt_ids`, the whole conversation so far.

        Raises:
            UsageError: The prompt is empty or too long, no token may be sampled, or a server was not started as
                training needs it.
            EngineFailure: No server was to be had for `server_timeout_s`, or one fails again and again.
        """
        check_request(prompt_ids, sampling, self.max_length)
        if self._weights.version is None:
            self._weights.write()
        max_tokens = min(sampling.max_tokens, self.max_length - len(prompt_ids))
        return await asyncio.wrap_future(self._background.submit(self._generate(prompt_ids, sampling, max_tokens)))

    def weights_changed(self) -> None:
        """Push the module's weights to all servers; call it after each change of them.

        A server that cannot be reached gets them when it is back.

        Raises:
            UsageError: A conversation is being sampled.
        """
        if num_running := sum(server.num_running for server in self.servers):
            raise UsageError(
                f"the weights changed while {num_running} conversations were being sampled, which would mix two "
                "policies in one completion; await their generate() first"
            )
        self._weights.write()
        self._home.clear()
        self._background.submit(self._push()).result()

    def close(self) -> None:
        """Close the connections and delete the weights' folder; the servers stay."""
        self._background.submit(self._close()).result()
        self._background.close()
        self._weights.remove()

    async def _close(self) -> None:
        for server in self.servers:
            await server.close()

    async def _generate(self, prompt_ids: Sequence[int], sampling: Sampling, max_tokens: int) -> Completion:
        for num_losses in range(1, _MOST_LOSSES + 1):
            await self._wait_for_server(sampling.key)
            try:
                with self._seat(sampling.key) as server:
                    completion = await server.sample(prompt_ids, sampling, max_tokens)
            except ServerLost:
                if num_losses == _MOST_LOSSES:
                    raise
            else:
                server.num_failures = 0
                return completion
        raise AssertionError("the loop returns or raises")

    async def _wait_for_server(self, key: tuple[int, int, int]) -> None:
        """Return once the conversation's server carries the newest weights; change the server if need be."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(ServerLost),
            wait=wait_exponential_jitter(_FIRST_WAIT_S, _LONGEST_WAIT_S),
            stop=stop_after_delay(self._server_timeout_s),
            reraise=True,
        ):
            with attempt, self._seat(key) as server:
                await self._update(server)

    @contextlib.contextmanager
    def _seat(self, key: tuple[int, int, int]) -> Iterator[VLLMServer]:
        """Yield the conversation's server, which counts it meanwhile; one that fails loses it."""
        if key not in self._home:
            self._home[key] = min(self.servers, key=lambda server: (server.num_failures, server.num_running))
        server = self._home[key]
        server.num_running += 1
        try:
            yield server
        except ServerLost as error:
            if server.num_failures == 0:
                _log.warning("%s; going on with other servers, or waiting for it", error)
            self._note_failure(server)
            self._home.pop(key, None)
            raise
        finally:
            server.num_running -= 1

    async def _update(self, server: VLLMServer) -> None:
        """Bring a server to the newest weights; of those who want the same at the same time one does it."""
        async with self._locks[server]:
            if server.version != self._weights.version:
                if server.version is None:
                    await server.check(self.max_length)
                await server.load(self._weights.path, self._weights.version)

    async def _push(self) -> None:
        results = await asyncio.gather(*map(self._try_update, self.servers), return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                raise error

    async def _try_update(self, server: VLLMServer) -> None:
        try:
            await self._update(server)
        except ServerLost as error:
            _log.warning("%s; it gets the new weights when it is back", error)
            self._note_failure(server)
        else:
            server.num_failures = 0

    @staticmethod
    def _note_failure(server: VLLMServer) -> None:
        server.num_failures += 1
        server.version = None

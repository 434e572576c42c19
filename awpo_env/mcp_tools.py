"""Suites of the tools of an MCP server, over stdio or streamable HTTP, through the official SDK."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import sys
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from awpo_env.errors import SuiteError, ToolError, UsageError
from awpo_env.json_text import loads_strict
from awpo_env.remote import RemoteTool, RemoteTools, Reset, shown_address, shown_error
from awpo_env.schema import ToolSet
from awpo_env.suites import Suite, TaskGenerator, make_suite
from awpo_env.types import JSON, Task

_MOST_PAGES = 100  # of a list of tools; a server that never ends it is broken
_CLOSE_TIMEOUT_S = 10.0  # the SDK waits up to six seconds for a server that does not want to end


def suite_from_mcp(
    server: str | Sequence[str],
    *,
    name: str,
    reset: Reset | None,
    tasks: Iterable[Task] = (),
    generator: TaskGenerator | None = None,
    policy: str = "",
    read_only: Collection[str] | None = None,
    environment: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Suite:
    """Return a suite whose tools are those of an MCP server. Needs ``pip install 'awpo[mcp]'``.

    An episode has a connection of its own: over stdio a server process, over HTTP a session. An HTTP server's state
    counts as one for all sessions, so with a `restore` tool only one episode at a time may be played. What the server
    says is data: descriptions are shown to the model as they are, results become observations, a result marked as an
    error is a ``tool_error``. A server that dies or breaks the protocol ends the episode as ``environment_error``.

    Args:
        server: The address of a streamable HTTP server, or the words of the command that starts a stdio server.
        name: What the suite is called.
        reset: How the server gets back to where an episode starts; None declares that it does not. A `restore` tool
            gets the state as its argument ``state``.
        tasks: Fixed tasks. References use the names the model sees (`awpo_env.shapes.function_names`).
        generator: Further tasks without end.
        policy: Domain rules the agent is told.
        read_only: Tools that change nothing; None believes the server's own ``readOnlyHint``.
        environment: Variables for a stdio server beside ``PATH``, ``HOME`` and the like, which is all it gets.
        headers: Sent to an HTTP server with every request, for example an authorization.
        timeout_s: Seconds after which a silent server counts as broken.

    Raises:
        UsageError: The SDK is missing, or an argument does not fit the transport.
        SuiteError: The server cannot be reached, or tools and tasks are inconsistent.
    """
    _check_transport(server, reset, environment, headers)
    target = server if isinstance(server, str) else tuple(server)
    connect = functools.partial(McpConnection, target, dict(environment or {}), dict(headers or {}), timeout_s)
    connection = connect()
    connection.close()
    offered = [_remote_tool(tool, read_only) for tool in connection.tools]
    builder = RemoteTools(name, connect, offered, reset, state_argument="state", is_shared=isinstance(server, str))
    return make_suite(
        name,
        ToolSet(builder.declarations),
        builder,
        policy=policy,
        tasks=tasks,
        generator=generator,
        is_resettable=builder.is_resettable,
    )


def _check_transport(
    server: str | Sequence[str],
    reset: Reset | None,
    environment: Mapping[str, str] | None,
    headers: Mapping[str, str] | None,
) -> None:
    """Raise UsageError where an argument does not fit how the server is reached."""
    is_http = isinstance(server, str)
    if is_http and not server.startswith(("http://", "https://")):
        raise UsageError(
            f"MCP server {_shown(server)!r} is no address; expected http(s)://... or a command as a list of words"
        )
    if is_http and reset is not None and reset.restart:
        raise UsageError(
            f"MCP server {_shown(server)!r} cannot be restarted from here; expected Reset(restore=..., snapshot=...)"
        )
    if environment and is_http:
        raise UsageError(f"MCP server {_shown(server)!r} is running already; 'environment' is for a command")
    if headers and not is_http:
        raise UsageError("'headers' are for an address; give a command its secrets in 'environment'")


def _remote_tool(tool: Any, read_only: Collection[str] | None) -> RemoteTool:
    hint = tool.annotations is not None and tool.annotations.read_only_hint is True
    return RemoteTool(
        name=tool.name,
        description=(tool.description or "").strip() or tool.title or tool.name,
        parameters=tool.input_schema,
        is_read_only=hint if read_only is None else tool.name in read_only,
    )


class McpConnection:
    """A session with an MCP server. The SDK is asynchronous, so it lives in a thread with an event loop of its own.

    Args:
        server: An address, or the words of a command.
        environment: Further variables for a command.
        headers: Further headers for an address.
        timeout_s: Seconds an answer may take.

    Raises:
        UsageError: The SDK is not installed.
        SuiteError: There is no such server, or it does not speak MCP.
    """

    def __init__(
        self, server: str | tuple[str, ...], environment: dict[str, str], headers: dict[str, str], timeout_s: float
    ) -> None:
        try:
            import mcp  # noqa: F401
        except ModuleNotFoundError:
            raise UsageError("tools behind MCP need the official SDK; run pip install 'awpo[mcp]'") from None
        self._timeout_s = timeout_s
        self.tools: tuple[Any, ...] = ()
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(server, environment, headers)),
            name="mcp-session",
            daemon=True,  # a session nobody closed must not keep the program from ending
        )
        self._thread.start()
        try:
            self._started.result(timeout_s)
        except Exception as error:
            self.close()
            reason = f"{type(error).__name__}: {shown_error(_innermost(error))}"
            # Without the cause, which may show the whole address.
            raise SuiteError(
                f"no MCP server answers at {_shown(server)!r} ({reason}); start it, or correct the address or command"
            ) from None

    async def _serve(self, server: str | tuple[str, ...], environment: dict[str, str], headers: dict[str, str]) -> None:
        """Keep a session open until `close`; whatever goes wrong before it is open is what `__init__` raises."""
        from mcp import Client

        self._loop, self._stop, self._task = asyncio.get_running_loop(), asyncio.Event(), asyncio.current_task()
        try:
            async with contextlib.AsyncExitStack() as stack:
                transport = await _open_transport(stack, server, environment, headers, self._timeout_s)
                self._client = await stack.enter_async_context(Client(transport))
                self.tools = await _list_tools(self._client)
                self._unwrapped = {tool.name for tool in self.tools if _is_wrapped(tool)}
                self._started.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            # Afterwards a lost connection is raised by the calls that meet it.

    def call(self, name: str, arguments: dict[str, JSON]) -> JSON:
        """Call a tool and return its result as a JSON value.

        Raises:
            ToolError: The server marked the result as an error, or refused the arguments.
            ConnectionError: The server is gone.
            TimeoutError: It did not answer in time.
        """
        from mcp import MCPError
        from mcp.types import INVALID_PARAMS

        request = self._client.call_tool(name, arguments)
        try:
            answer = asyncio.run_coroutine_threadsafe(request, self._loop)
        except RuntimeError:
            request.close()
            raise ConnectionError("the session with the MCP server is over") from None
        try:
            result = answer.result(self._timeout_s)
        except TimeoutError:
            answer.cancel()
            raise TimeoutError(f"the MCP server did not answer within {self._timeout_s:g} s") from None
        except MCPError as error:
            if error.code == INVALID_PARAMS:
                raise ToolError(error.message) from error
            raise ConnectionError(f"the MCP server failed: {error.message}") from error
        if result.is_error:
            raise ToolError("\n".join(getattr(block, "text", "") for block in result.content).strip() or "it failed")
        return _value(result, name in self._unwrapped)

    def begin(self) -> None:
        """Nothing is kept on this side."""

    def close(self) -> None:
        """End the session and, over stdio, the server process; may be called twice."""
        if hasattr(self, "_loop"):
            end = self._stop.set if self._started.done() and not self._started.exception() else self._task.cancel
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(end)
        self._thread.join(_CLOSE_TIMEOUT_S)


async def _open_transport(
    stack: contextlib.AsyncExitStack,
    server: str | tuple[str, ...],
    environment: dict[str, str],
    headers: dict[str, str],
    timeout_s: float,
) -> Any:
    if isinstance(server, str):
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        client = httpx2.AsyncClient(headers=headers, timeout=timeout_s)
        return streamable_http_client(server, http_client=await stack.enter_async_context(client))
    from mcp import StdioServerParameters, stdio_client

    command, *words = server
    # The real stderr: what stands in for it in a notebook or a test has no file descriptor.
    return stdio_client(
        StdioServerParameters(command=command, args=words, env=environment), errlog=sys.__stderr__ or sys.stderr
    )


async def _list_tools(client: Any) -> tuple[Any, ...]:
    tools: list[Any] = []
    cursor = None
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return tuple(tools)
    raise ValueError(f"the list of tools has more than {_MOST_PAGES} pages")


def _is_wrapped(tool: Any) -> bool:
    """Whether the server had to put a result that is no object into one: ``{"result": ...}``, as SDK servers do."""
    schema = tool.output_schema or {}
    properties = schema.get("properties", {})
    is_generated = str(schema.get("title")).endswith("Output") and properties.get("result", {}).get("title") == "Result"
    return list(properties) == ["result"] and (is_generated or schema.get("x-fastmcp-wrap-result") is True)


def _value(result: Any, is_wrapped: bool) -> JSON:
    """Return a result as one JSON value: its structured content, else its text, read as JSON where it is an object or a
    list, else one value a block."""
    if result.structured_content is not None:
        return result.structured_content["result"] if is_wrapped else result.structured_content
    values = [_block(block) for block in result.content]
    return values[0] if len(values) == 1 else values or None


def _block(block: Any) -> JSON:
    if block.type != "text":
        # Pictures and sounds are described, not shown: the model reads text.
        return block.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"data"})
    if block.text.lstrip().startswith(("{", "[")):
        with contextlib.suppress(ValueError):
            return loads_strict(block.text)
    return block.text


def _shown(server: str | tuple[str, ...]) -> str:
    """Return a server as it may stand in a message: addresses and arguments hold secrets now and then."""
    return shown_address(server) if isinstance(server, str) else " ".join(server[:2])


def _innermost(error: BaseException) -> BaseException:
    """Return what really happened; the SDK's tasks wrap it in groups of one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error

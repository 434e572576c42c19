"""Suites of the operations of an OpenAPI 3.1 document, each a tool that is called over HTTP."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from awpo_env.errors import SuiteError, ToolError, UsageError, did_you_mean
from awpo_env.operations import BODY, Operation, read_operations
from awpo_env.remote import RemoteTool, RemoteTools, Reset, shown_address, shown_error
from awpo_env.schema import ToolSet
from awpo_env.suites import Suite, TaskGenerator, make_suite
from awpo_env.types import JSON, Task

_SAFE_METHODS = ("get", "head", "options")
# What a client, not the model, has done wrong: credentials, a proxy's too, a connection too slow, too many requests.
_CLIENT_FAULTS = (401, 407, 408, 429)
_LONGEST_QUOTE = 300


def suite_from_openapi(
    document: Mapping[str, JSON] | str | Path,
    *,
    name: str,
    reset: Reset | None,
    tasks: Iterable[Task] = (),
    generator: TaskGenerator | None = None,
    policy: str = "",
    base_url: str | None = None,
    operations: Collection[str] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Suite:
    """Return a suite whose tools are the operations of an HTTP API. Needs ``pip install 'awpo[openapi]'``.

    A tool's arguments are the operation's parameters by name, and its JSON body as ``body``. A 2xx answer is the
    result. A 4xx answer other than 401, 407, 408 and 429 is a ``tool_error`` with what the server said; everything
    else, a redirect included, ends the episode as ``environment_error``. GET, HEAD and OPTIONS change nothing. The
    server's state counts as one for all connections, so with a `restore` tool only one episode at a time may be played.

    Args:
        document: The OpenAPI 3.1 document: a mapping, a JSON or YAML file, or an address to fetch it from.
        name: What the suite is called.
        reset: How the server gets back to where an episode starts; None declares that it does not. It names operations
            by ``operationId``; `restore` gets the state as its JSON body.
        tasks: Fixed tasks. References use the names the model sees (`awpo_env.shapes.function_names`).
        generator: Further tasks without end.
        policy: Domain rules the agent is told.
        base_url: Where the server is; None takes the document's first ``servers`` entry.
        operations: Only these, by ``operationId``; None is all of them.
        headers: Sent with every request, for example an authorization.
        timeout_s: Seconds after which a silent server counts as broken.

    Raises:
        UsageError: A library is missing, or there is no such operation.
        SuiteError: The document cannot be read, or says something that cannot be called.
    """
    content, source = _read_document(document, headers or {}, timeout_s)
    chosen = _choose_operations(name, content, operations)
    url = _server_url(name, content, base_url, source)
    connect = functools.partial(HttpConnection, url, chosen, dict(headers or {}), timeout_s)
    offered = [
        RemoteTool(operation.id, operation.description, operation.parameters_schema, operation.method in _SAFE_METHODS)
        for operation in chosen.values()
    ]
    builder = RemoteTools(name, connect, offered, reset, state_argument=BODY, is_shared=True)
    return make_suite(
        name,
        ToolSet(builder.declarations),
        builder,
        policy=policy,
        tasks=tasks,
        generator=generator,
        is_resettable=builder.is_resettable,
    )


def _choose_operations(name: str, content: JSON, wanted: Collection[str] | None) -> dict[str, Operation]:
    """Return the operations of a document by id, all of them or those wanted."""
    version = content.get("openapi") if isinstance(content, Mapping) else None
    if not str(version).startswith(("3.1.", "3.2.")):
        raise SuiteError(f"suite {name!r}: the document says openapi {version!r}; expected 3.1, so convert it first")
    chosen = {operation.id: operation for operation in read_operations(content, wanted)}
    for operation in wanted or ():
        if operation not in chosen:
            raise UsageError(f"suite {name!r} has no operation {operation!r}.{did_you_mean(operation, chosen)}")
    return chosen


def _httpx() -> Any:
    try:
        import httpx
    except ModuleNotFoundError:
        raise UsageError("tools behind OpenAPI need httpx; run pip install 'awpo[openapi]'") from None
    return httpx


def _read_document(
    document: Mapping[str, JSON] | str | Path, headers: Mapping[str, str], timeout_s: float
) -> tuple[JSON, str]:
    """Return the document, and the address it came from if it has one."""
    if isinstance(document, Mapping):
        return document, ""
    if isinstance(document, str) and document.startswith(("http://", "https://")):
        httpx, where = _httpx(), shown_address(document)
        try:
            answer = httpx.get(document, headers=dict(headers), timeout=timeout_s).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Without the cause, which shows the whole address.
            reason = f"{type(error).__name__}: {shown_error(error)}"
            raise SuiteError(f"no OpenAPI document at {where!r}: {reason}") from None
        return _parse(answer.text, where), document
    try:
        return _parse(Path(document).read_text(encoding="utf-8"), str(document)), ""
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"OpenAPI document '{document}' cannot be read: {error}") from None


def _parse(text: str, where: str) -> JSON:
    try:
        return json.loads(text)
    except ValueError as no_json:
        try:
            import yaml
        except ModuleNotFoundError:
            raise UsageError("OpenAPI documents in YAML need pyyaml; run pip install 'awpo[openapi]'") from None
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            raise SuiteError(f"OpenAPI document '{where}' is neither JSON nor YAML: {no_json}") from None


def _server_url(name: str, document: Mapping[str, JSON], base_url: str | None, source: str) -> str:
    servers = document.get("servers") or [{"url": "/"}]
    url = base_url or servers[0]["url"]
    if source:
        url = str(_httpx().URL(source).join(url))
    if not url.startswith(("http://", "https://")) or "{" in url:
        raise SuiteError(
            f"suite {name!r}: server address {shown_address(url)!r} is not complete; pass base_url='https://...'"
        )
    return url.rstrip("/")


class HttpConnection:
    """A client of one HTTP API.

    Args:
        url: Where the server is.
        operations: What can be called, by id.
        headers: Sent with every request.
        timeout_s: Seconds an answer may take.
    """

    def __init__(
        self, url: str, operations: Mapping[str, Operation], headers: dict[str, str], timeout_s: float
    ) -> None:
        # No redirects: they would take the user's headers to wherever a server says.
        self._client = _httpx().Client(headers=headers, timeout=timeout_s, follow_redirects=False)
        self._url, self._operations = url, operations

    def call(self, name: str, arguments: dict[str, JSON]) -> JSON:
        """Call an operation and return what it answers as a JSON value.

        Raises:
            ToolError: The server says that the request was wrong.
            ConnectionError: It is gone, or has failed.
        """
        httpx = _httpx()
        request = self._operations[name].request(arguments)
        try:
            answer = self._client.request(
                request.method,
                self._url + request.path,
                params=request.query or None,
                headers=request.headers,
                content=request.content,
            )
        except httpx.HTTPError as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        if answer.is_success:
            return _value(answer)
        said = answer.text[:_LONGEST_QUOTE]
        if answer.is_client_error and answer.status_code not in _CLIENT_FAULTS:
            raise ToolError(f"HTTP {answer.status_code}: {said}")
        raise ConnectionError(f"the server answered HTTP {answer.status_code}: {said}")

    def begin(self) -> None:
        """Forget the cookies of an earlier episode."""
        self._client.cookies.clear()

    def close(self) -> None:
        """Close the client; may be called twice."""
        self._client.close()


def _value(answer: Any) -> JSON:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not answer.content:
        return None
    if kind == "application/json" or kind.endswith("+json"):
        return json.loads(answer.content)
    if kind.startswith("text/") or not kind:
        return answer.text
    return {"content_type": kind, "num_bytes": len(answer.content)}

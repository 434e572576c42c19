"""HTTP to an OpenAI-compatible server: a JSON body goes out, text comes back, or one of two errors says why not."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment

import aiohttp

from awpo_env.types import JSON

# The `openai` package would do the same for twice the whole CPU time of a judgement, and take a server that is gone
# for one that is slow.
_NAMED_BY_VARIABLE = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}


class Refused(Exception):
    """The server answered with an error.

    Attributes:
        status: HTTP status, 400 or more.
        said: The message in the body; may be empty, and may quote the key.
        headers: Of the answer, their names in any case.
    """

    def __init__(self, status: int, said: str, headers: Mapping[str, str]) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.said = said
        self.headers = headers


class Broken(Exception):
    """No connection, or it broke off before the end of the answer; the text names the kind of error.

    Attributes:
        is_refused: Whether nobody listens there.
    """

    def __init__(self, error: Exception) -> None:
        root = error
        while root.__cause__ is not None:
            root = root.__cause__
        super().__init__(type(root).__name__)
        self.is_refused = isinstance(root, ConnectionRefusedError)


class Connection:
    """Connections to one server, kept open between requests. To be used on one event loop; nothing is timed here.

    Args:
        base_url: Address of the interface.
        key: Sent with every request, to this server only.
    """

    def __init__(self, base_url: str, key: str) -> None:
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        for header, variable in _NAMED_BY_VARIABLE.items():
            if os.environ.get(variable):
                self._headers[header] = os.environ[variable]
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: dict[str, JSON]) -> str:
        """Send a request and return the whole answer.

        Raises:
            Refused: It is an error.
            Broken: There is none.
        """
        if self._session is None:
            self._session = self._open()
        try:
            async with self._session.post(self._url, data=json.dumps(body).encode()) as answer:
                text = (await answer.read()).decode("utf-8", "replace")
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(error) from None
        if answer.status >= 400:
            raise Refused(answer.status, _message(text), answer.headers)
        return text

    async def close(self) -> None:
        """Close what is open; the next request opens it again."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(self._url),
        )


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for an address.

    aiohttp looks by itself only together with `.netrc`, and for each request in a thread.
    """
    parts = urlsplit(url)
    if proxy_bypass_environment(parts.netloc):
        return None
    proxies = getproxies_environment()
    return proxies.get(parts.scheme) or proxies.get("all")


def _message(body: str) -> str:
    """Return what an error says, from the places where OpenAI-compatible servers put it; else the body."""
    try:
        answer = json.loads(body)
        return str(answer.get("error", answer)["message"] or "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return body

"""HTTP to a judge model's server: where requests go, what they carry, and what comes of answers that are none."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from awpo_env.judges.llm_connection import Broken, Connection, Refused

ANSWER = (200, {"Content-Type": "application/json"}, b'{"choices": []}')
SEEN: list[Request] = []


@dataclass
class Request:
    """What a server was sent, and over which connection."""

    path: str
    headers: Message
    body: bytes
    client: tuple[str, int]


@contextmanager
def serve(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[str]:
    """Give these answers, one after another; the requests are kept in `SEEN`."""
    left = list(answers)
    SEEN.clear()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            SEEN.append(Request(self.path, self.headers, body, self.client_address))
            status, headers, body = left.pop(0)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def post(base_url: str, *bodies: dict[str, object]) -> list[str]:
    async def run() -> list[str]:
        connection = Connection(base_url, "sk-1")
        try:
            return [await connection.post(body) for body in bodies or ({},)]
        finally:
            await connection.close()

    return asyncio.run(run())


def test_a_request_is_json_with_the_key_and_connections_are_used_again():
    with serve(ANSWER, ANSWER) as url:
        assert post(f"{url}/v1/", {"text": "1 < 2 \ud800 é"}, {}) == ['{"choices": []}'] * 2
    first, second = SEEN
    assert first.path == "/v1/chat/completions"
    assert json.loads(first.body) == {"text": "1 < 2 \ud800 é"}
    assert first.headers["Authorization"] == "Bearer sk-1"
    assert first.headers["Content-Type"] == "application/json"
    assert first.client == second.client


def test_the_environment_names_the_organisation_and_the_project(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-7")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-9")
    with serve(ANSWER) as url:
        post(url)
    assert (SEEN[0].headers["OpenAI-Organization"], SEEN[0].headers["OpenAI-Project"]) == ("org-7", "proj-9")


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_is_used(monkeypatch, variable):
    with serve(ANSWER) as url:
        monkeypatch.setenv(variable, url)
        post("http://judge.invalid/v1")
    assert SEEN[0].path == "http://judge.invalid/v1/chat/completions"


def test_a_host_without_a_proxy_is_reached_directly(monkeypatch):
    with serve(ANSWER) as url:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody listens there
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        post(url)
    assert SEEN[0].path == "/chat/completions"


def test_a_redirect_keeps_the_body_and_the_key_only_on_the_same_server():
    with serve((307, {"Location": "/v2/chat/completions"}, b""), ANSWER) as url:
        post(f"{url}/v1", {"a": 1})
    assert (SEEN[1].path, json.loads(SEEN[1].body)) == ("/v2/chat/completions", {"a": 1})
    assert SEEN[1].headers["Authorization"] == "Bearer sk-1"
    moved = {}
    with serve((307, moved, b""), ANSWER) as url:
        moved["Location"] = url.replace("127.0.0.1", "localhost")
        post(url)
    assert "Authorization" not in SEEN[1].headers


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "too long"}}', "too long"),
        (b'{"error": {"message": null}}', ""),
        (b'{"object": "error", "message": "too long"}', "too long"),
        (b'{"error": "too long"}', '{"error": "too long"}'),
        (b'{"detail": "too long"}', '{"detail": "too long"}'),
        (b"<h1>Bad \xff gateway</h1>", "<h1>Bad \ufffd gateway</h1>"),
        (b"[" * 100_000, "[" * 100_000),
        (b"", ""),
    ],
)
def test_an_error_is_told_in_the_servers_words(body, said):
    with serve((429, {"Retry-After": "7"}, body)) as url, pytest.raises(Refused) as raised:
        post(url)
    assert (raised.value.status, raised.value.said) == (429, said)
    assert raised.value.headers.get("retry-after") == "7"


def test_nobody_listening_is_told_from_an_answer_that_breaks_off():
    with pytest.raises(Broken, match="ConnectionRefusedError") as raised:
        post("http://127.0.0.1:9")
    assert raised.value.is_refused
    with serve((200, {"Transfer-Encoding": "chunked"}, b"ff\r\nhalf")) as url, pytest.raises(Broken) as raised:
        post(url)
    assert not raised.value.is_refused

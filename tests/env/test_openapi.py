"""Operations of a real HTTP server are tools: requests arrive as the document says, and failures score nothing."""

from __future__ import annotations

import contextlib
import copy
import json
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from awpo_env.env import ToolUseEnv
from awpo_env.errors import SuiteError, ToolError, UsageError
from awpo_env.openapi_tools import suite_from_openapi
from awpo_env.remote import Reset
from awpo_env.suites import Suite
from awpo_env.types import AssistantMessage, Fact, Task, ToolCall, UserTurn

SERVER = Path(__file__).parent / "notes_http_server.py"
DOCUMENT = runpy.run_path(str(SERVER))["DOCUMENT"]
STATE = {"next": 2, "notes": {"N1": {"title": "Wifi"}}}


def task(task_id: str, *calls: ToolCall, facts: tuple[Fact, ...] = ()) -> Task:
    reference = (AssistantMessage(calls=calls), AssistantMessage(content="Wifi. Done."))
    return Task(task_id, "notes", STATE, (UserTurn("Do it.", reference, facts),))


TASKS = [
    task("add", ToolCall("notes_add", {"body": {"title": "Milk"}})),
    task("read", ToolCall("getNote", {"note_id": "N1"}), facts=(Fact("Wifi"),)),
]


@contextlib.contextmanager
def running() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, str(SERVER), str(port)]) as process:
        try:
            while process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running() as (address, _):
        yield address


@pytest.fixture(scope="module")
def suite(address: str) -> Suite:
    """All operations, with two of them to set and read the state."""
    reset = Reset(restore="writeState", snapshot="readState")
    return suite_from_openapi(f"{address}/openapi.json", name="notes", reset=reset, tasks=TASKS)


@pytest.fixture
def call(suite: Suite) -> Iterator[Callable[..., Any]]:
    """Calls an operation on a backend of its own."""
    backend = suite.backend(STATE)
    yield lambda name, **arguments: getattr(backend, name)(**arguments)
    backend.close()


def act(env: ToolUseEnv, name: str, **arguments: Any) -> Any:
    observation, *_ = env.step(f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>")
    return json.loads(observation["new_messages"][-1]["content"])


def test_operations_are_tools(suite: Suite) -> None:
    assert set(suite.tools) == {
        *("listNotes", "notes_add", "getNote", "deleteNote", "echo", "send", "form", "answer", "die", "get__unnamed"),
    }
    assert suite.is_resettable
    assert suite.tools.declarations["getNote"]["function"] == {
        "name": "getNote",
        "description": "Read one note.",
        "parameters": {
            "type": "object",
            "properties": {"note_id": {"type": "string", "description": "Id of a note."}},
            "required": ["note_id"],
            "additionalProperties": False,
        },
    }
    assert suite.tools.declarations["notes_add"]["function"]["parameters"] == {
        "type": "object",
        "properties": {"body": {"$ref": "#/$defs/Note"}},
        "required": ["body"],
        "additionalProperties": False,
        "$defs": {
            "Note": {
                "type": "object",
                "properties": {
                    "title": {"type": "string", "minLength": 1},
                    "replies": {"type": "array", "items": {"$ref": "#/$defs/Note"}},
                },
                "required": ["title"],
            },
        },
    }


def play(suite: Suite) -> list[Any]:
    env = ToolUseEnv(suite)
    seen: list[Any] = [env.reset(seed=0, options={"task_id": "add"})]
    seen.append(act(env, "notes_add", body={"title": "Wifi"}))  # refused, after it counted up
    seen.append(act(env, "notes_add", body={"title": "Milk", "replies": [{"title": ""}]}))
    seen.append(act(env, "getNote", note_id="N7"))
    seen.append(act(env, "notes_add", body={"title": "Milk"}))
    seen.append(env.step("Done."))
    env.close()
    return seen


def test_episodes_repeat_themselves_and_refused_calls_leave_no_trace(suite: Suite) -> None:
    _, refused, invalid, unknown, added, (*_, terminated, truncated, info) = seen = play(suite)
    assert refused == {"error": {"code": "tool_error", "message": 'HTTP 409: {"detail": "there is such a note"}'}}
    assert (invalid["error"]["code"], invalid["error"]["path"]) == ("invalid_arguments", "/body/replies/0/title")
    assert unknown == {"error": {"code": "tool_error", "message": 'HTTP 404: {"detail": "no note N7"}'}}
    assert added == {"note_id": "N2"}
    assert (terminated, truncated, info["outcome"].success) == (True, False, True)
    assert play(suite) == seen


def test_what_is_told_must_have_been_read(suite: Suite) -> None:
    with contextlib.closing(ToolUseEnv(suite, tasks=["read"])) as env:
        env.reset(seed=0)
        assert not env.step("Wifi.")[-1]["outcome"].success
        env.reset(seed=0)
        assert act(env, "getNote", note_id="N1") == {"title": "Wifi"}
        assert env.step("Wifi.")[-1]["outcome"].success


@pytest.mark.parametrize(
    ("arguments", "path", "query", "headers"),
    [
        ({"item": "a"}, "a", "", {}),
        ({"item": "a/../b?c#d %2e\u00e9{item}"}, "a%2F..%2Fb%3Fc%23d%20%252e%C3%A9%7Bitem%7D", "", {}),
        ({"item": "a", "id": 3, "id_header": "b"}, "a", "id=3", {"id": "b"}),
        ({"item": "a", "list": ["x", "y&z"], "plain": ["x", "y"]}, "a", "list=x&list=y%26z&plain=x%2Cy", {}),
        ({"item": "a", "filter": {"min": 1, "word": "w"}}, "a", "filter%5Bmin%5D=1&filter%5Bword%5D=w", {}),
        ({"item": "a", "open": {"min": 1, "word": "w"}}, "a", "min=1&word=w", {}),
        ({"item": "a", "json": {"min": 1}}, "a", "json=%7B%22min%22%3A+1%7D", {}),
        ({"item": "a", "X-List": [1, 2], "session": "s;t"}, "a", "", {"X-List": "1,2", "cookie": "session=s%3Bt"}),
    ],
)
def test_parameters_arrive_as_the_document_says(
    call: Callable[..., Any], arguments: dict[str, Any], path: str, query: str, headers: dict[str, str]
) -> None:
    assert call("echo", **arguments) == {"path": f"/api/echo/{path}", "query": query, "headers": headers, "body": ""}


def test_bodies_arrive_as_the_document_says(call: Callable[..., Any]) -> None:
    sent = call("send", item="a", body=[1, {"b": "\u00e9"}])
    assert (json.loads(sent["body"]), sent["headers"]) == ([1, {"b": "\u00e9"}], {"content-type": "application/json"})
    sent = call("form", body={"a": [1, True], "b": "x y"})
    assert sent["body"] == "a=1&a=true&b=x+y"
    assert sent["headers"] == {"content-type": "application/x-www-form-urlencoded"}


def test_headers_are_the_user_s_and_not_the_model_s(address: str, suite: Suite) -> None:
    assert "Authorization" not in suite.tools.parameters("echo")["properties"]
    own = suite_from_openapi(
        f"{address}/openapi.json", name="own", reset=None, tasks=TASKS, headers={"Authorization": "secret"}
    )
    backend = own.backend(None)
    assert backend.echo(item="a")["headers"] == {"Authorization": "secret"}
    backend.close()


@pytest.mark.parametrize(
    "arguments", [{"item": ""}, {"item": "."}, {"item": ".."}, {"item": "a", "id_header": "b\r\nc: d"}]
)
def test_what_would_change_the_request_is_the_model_s_mistake(
    call: Callable[..., Any], arguments: dict[str, Any]
) -> None:
    with pytest.raises(ToolError, match=r"cannot|can only"):
        call("echo", **arguments)


@pytest.mark.parametrize(
    ("status", "result"),
    [(200, "words"), (201, "words"), (202, {"content_type": "image/png", "num_bytes": 5}), (203, None)],
)
def test_answers_become_json_values(call: Callable[..., Any], status: int, result: Any) -> None:
    assert call("answer", status=status) == result


def test_an_empty_answer_is_null(call: Callable[..., Any]) -> None:
    assert call("deleteNote", note_id="N1") is None


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, ToolError), (403, ToolError), (422, ToolError)] + [(s, ConnectionError) for s in (302, 401, 429, 500)],
)
def test_whose_fault_a_status_is(call: Callable[..., Any], status: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"HTTP {status}: words"):
        call("answer", status=status)


def test_a_server_that_dies_is_no_score() -> None:
    with running() as (address, process):
        suite = suite_from_openapi(DOCUMENT, base_url=f"{address}/api", name="notes", reset=None, tasks=TASKS)
        env = ToolUseEnv(suite)
        env.reset(seed=0)
        assert act(env, "listNotes") == []
        _, reward, *is_over, info = env.step('<tool_call>{"name": "die", "arguments": {}}</tool_call>')
        assert (reward, is_over, info["status"], info["outcome"]) == (0.0, [False, True], "environment_error", None)
        assert process.wait() == 3
        env.close()


def test_without_a_reset_safe_methods_change_nothing(address: str) -> None:
    suite = suite_from_openapi(f"{address}/openapi.json", name="live", reset=None, tasks=TASKS)
    assert not suite.is_resettable
    with contextlib.closing(ToolUseEnv(suite, tasks=["add"])) as env:
        for calls, is_solved in (([], False), (["listNotes"], False), (["listNotes", "notes_add", "listNotes"], True)):
            env.reset(seed=0)
            act(env, "writeState", body=STATE)
            env.reset(seed=0)
            for name in calls:
                act(env, name, **({"body": {"title": "Milk"}} if name == "notes_add" else {}))
            assert env.step("Done.")[-1]["outcome"].success is is_solved
    only = suite_from_openapi(
        f"{address}/openapi.json", name="live", reset=None, tasks=[TASKS[1]], operations=["getNote", "listNotes"]
    )
    assert only.is_resettable and set(only.tools) == {"getNote", "listNotes"}


def test_documents_come_as_files_too(tmp_path: Path) -> None:
    (tmp_path / "api.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "api.yaml").write_text("openapi: 3.1.0\npaths:\n  /a:\n    get:\n      summary: Look.\n")
    for name, tools in (("api.json", 12), ("api.yaml", 1)):
        settings: dict[str, Any] = {"base_url": "http://127.0.0.1:9", "reset": None, "tasks": [task("idle")]}
        assert len(suite_from_openapi(tmp_path / name, name="api", **settings).tools) == tools


PARAMETERS, SCHEMAS = ("components", "parameters"), ("components", "schemas")
LIST = ("paths", "/notes", "get", "parameters", 0)
ITSELF = {"$ref": "#/components/parameters/NoteId"}


@pytest.mark.parametrize(
    ("where", "change", "problem"),
    [
        ((), {"openapi": "3.0.3"}, r"says openapi '3\.0\.3'; expected 3\.1"),
        ((), {"openapi": None}, "says openapi None"),
        (("paths", "/form", "post", "requestBody"), {"content": {"multipart/form-data": {}}}, "only JSON and forms"),
        (LIST, {"style": "pipeDelimited"}, "style 'pipeDelimited'"),
        (LIST, {"in": "body"}, r"'listNotes' is malformed: KeyError\('body'\)"),
        (("paths", "/state", "get"), {"operationId": "echo"}, "'echo' stands twice"),
        (("paths",), {"/x/{y}": {"get": {}}}, r"path parameters disagree about \['y'\]"),
        (PARAMETERS, {"NoteId": {"$ref": "a.json#/b"}}, "leaves the document"),
        (PARAMETERS, {"NoteId": {"$ref": "#/components/parameters/None"}}, "leads nowhere"),
        (PARAMETERS, {"NoteId": ITSELF}, "lead in a circle"),
        (SCHEMAS, {"Title": {"$ref": "#/components/schemas/None"}}, "leads nowhere"),
        (SCHEMAS, {"Title": {"$ref": "http://127.0.0.1/t"}}, "is not to #/components/schemas/"),
        (SCHEMAS, {"Title": {"type": "texts"}}, "is no valid Draft 2020-12 schema"),
        ((), {"servers": [{"url": "https://{host}/"}]}, "is not complete; pass base_url"),
        ((), {}, "server address '/api' is not complete"),
    ],
)
def test_a_document_that_cannot_be_called_is_refused(where: tuple[Any, ...], change: Any, problem: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    part: Any = document
    for step in where:
        part = part[step]
    part.update(change)
    with pytest.raises(SuiteError, match=problem):
        url = None if "server" in problem or "base_url" in problem else "http://127.0.0.1:9"
        suite_from_openapi(document, name="notes", reset=None, tasks=TASKS, base_url=url)


def test_what_is_not_there_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no operation 'getNotes'\. Did you mean 'getNote'"):
        suite_from_openapi(DOCUMENT, name="notes", reset=None, operations=["getNotes", "getNote"])
    with pytest.raises(SuiteError, match=r"no OpenAPI document at .* ConnectError"):
        suite_from_openapi("http://127.0.0.1:9/openapi.json", name="notes", reset=None)
    secret = f"{address.replace('//', '//me:word@')}/api/notes/N9?key=word"
    with pytest.raises(SuiteError, match=f"at '{address}/api/notes/N9': HTTPStatusError: .*404") as raised:
        suite_from_openapi(secret, name="notes", reset=None)
    assert "word" not in str(raised.value) and raised.value.__suppress_context__
    with pytest.raises(SuiteError, match="InvalidURL"):
        suite_from_openapi("http://[::", name="notes", reset=None)
    with pytest.raises(SuiteError, match="cannot be read"):
        suite_from_openapi(tmp_path / "none.json", name="notes", reset=None)
    (tmp_path / "bad.yaml").write_text("{]")
    with pytest.raises(SuiteError, match="neither JSON nor YAML"):
        suite_from_openapi(tmp_path / "bad.yaml", name="notes", reset=None)


def test_cookies_last_as_long_as_an_episode(suite: Suite) -> None:
    with contextlib.closing(suite.backend(STATE)):  # keeps connections from being closed
        episode = suite.backend(STATE)
        assert episode.answer(status=201) == "words"
        assert episode.echo(item="a")["headers"] == {"cookie": "made=yes"}
        episode.close()
        with contextlib.closing(suite.backend(STATE)) as next_episode:
            assert next_episode.echo(item="a")["headers"] == {}

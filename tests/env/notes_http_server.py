"""A notebook behind a real HTTP server with an OpenAPI 3.1 document: ``python notes_http_server.py PORT``."""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
FILTER = {"type": "object", "properties": {"min": NUMBER, "word": TEXT}}


def parameter(name: str, place: str, schema: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": schema, **more}


def operation(operation_id: str, *parameters: Any, body: Any = None, kind: str = "application/json") -> dict[str, Any]:
    made: dict[str, Any] = {"operationId": operation_id, "summary": f"Do {operation_id}.", "parameters": [*parameters]}
    if body is not None:
        made["requestBody"] = {"required": True, "content": {kind: {"schema": body}}}
    return made


NOTE_ID = {"$ref": "#/components/parameters/NoteId"}
ECHO = (
    parameter("item", "path", TEXT, required=True),
    parameter("id", "query", NUMBER),
    parameter("id", "header", TEXT),
    parameter("list", "query", {"type": "array", "items": TEXT}),
    parameter("plain", "query", {"type": "array", "items": TEXT}, explode=False),
    parameter("filter", "query", FILTER, style="deepObject"),
    parameter("open", "query", FILTER),
    {"name": "json", "in": "query", "content": {"application/json": {"schema": FILTER}}},
    parameter("X-List", "header", {"type": "array", "items": NUMBER}),
    parameter("session", "cookie", TEXT),
    parameter("Authorization", "header", TEXT),
)
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Notes", "version": "1"},
    "servers": [{"url": "/api"}],
    "paths": {
        "/notes": {
            "get": operation("listNotes", parameter("word", "query", TEXT)),
            "post": operation("notes.add", body={"$ref": "#/components/schemas/Note"}),
        },
        "/notes/{note_id}": {
            "parameters": [NOTE_ID],
            "get": {"operationId": "getNote", "description": "Read one note."},
            "delete": {"operationId": "deleteNote"},
        },
        "/state": {"get": operation("readState"), "put": operation("writeState", body={"type": "object"})},
        "/echo/{item}": {"get": operation("echo", *ECHO), "post": operation("send", ECHO[0], body=True)},
        "/form": {"post": operation("form", body={"type": "object"}, kind="application/x-www-form-urlencoded")},
        "/answer/{status}": {"get": operation("answer", parameter("status", "path", NUMBER, required=True))},
        "/die": {"post": operation("die")},
        "/unnamed": {"get": {}},
    },
    "components": {
        "parameters": {"NoteId": parameter("note_id", "path", TEXT, required=True, description="Id of a note.")},
        "schemas": {
            "Note": {
                "type": "object",
                "properties": {
                    "title": {"$ref": "#/components/schemas/Title"},
                    "replies": {"type": "array", "items": {"$ref": "#/components/schemas/Note"}},
                },
                "required": ["title"],
            },
            "Title": {"type": "string", "minLength": 1},
        },
    },
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: dict[str, Any] = {"next": 1, "notes": {}}  # noqa: RUF012 - of the one server there is

    def answer(self, value: Any, status: int = 200, kind: str = "application/json") -> None:
        content = b"" if status == 204 else value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        if status == 201:
            self.send_header("set-cookie", "made=yes; Path=/")
        if status == 302:
            self.send_header("location", "/api/notes")
        self.end_headers()
        self.wfile.write(content)

    def handle_request(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        url = urlsplit(self.path)
        if url.path == "/openapi.json":
            return self.answer(DOCUMENT)
        _, api, place, *rest = url.path.split("/")
        assert api == "api", self.path
        if place == "die":
            os._exit(3)
        if place in ("echo", "form"):
            names = ("id", "X-List", "cookie", "Authorization", "content-type")
            headers = {name: self.headers[name] for name in names if name in self.headers}
            return self.answer({"path": url.path, "query": url.query, "headers": headers, "body": raw})
        if place == "answer":
            status = int(rest[0])
            kinds = {201: "text/plain", 202: "image/png", 203: "application/problem+json"}
            return self.answer("null" if status == 203 else "words", status, kinds.get(status, "text/plain"))
        if place == "state":
            if self.command == "PUT":
                Handler.state = json.loads(raw)
            return self.answer(self.state)
        return self.notes([unquote(word) for word in rest], raw)

    def notes(self, rest: list[str], raw: str) -> None:
        notes = self.state["notes"]
        if self.command == "POST":
            note_id = f"N{self.state['next']}"
            self.state["next"] += 1
            note = json.loads(raw)
            if note in notes.values():
                return self.answer({"detail": "there is such a note"}, 409)
            notes[note_id] = note
            return self.answer({"note_id": note_id}, 201)
        if not rest:
            return self.answer(sorted(notes))
        if rest[0] not in notes:
            return self.answer({"detail": f"no note {rest[0]}"}, 404)
        if self.command == "DELETE":
            del notes[rest[0]]
            return self.answer("", 204)
        return self.answer(notes[rest[0]])

    do_GET = do_POST = do_PUT = do_DELETE = handle_request

    def log_message(self, *arguments: Any) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()

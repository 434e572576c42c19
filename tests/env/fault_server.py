"""A judge model's server that misbehaves on purpose: an OpenAI-compatible endpoint in a process of its own.

The marks it gives follow from the transcript alone: the number after the word ``case`` in it, written with one digit
for each criterion. So a test knows the right score of every transcript, and sees when one got another's. A transcript
without one gets marks that mean nothing. A question without a system message is one of another library's judges, and
gets one number, case / 1000, as text or as the JSON object ``{"score": ...}``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import zlib
from collections import Counter
from typing import Any

TRANSIENT = (
    *("429", "429_retry_after", "500", "503_html", "hang", "half_body", "cut_stream", "cut_json", "no_completion"),
    *("no_json", "wrong_schema", "other_id", "no_verdict", "twice", "cut_reply"),
)
"""Faults after which the next try may go well."""

HARMLESS = ("text_around", "fenced", "thinking", "reversed")
"""Replies that are unusual and right."""

RIGHT = "@right@"
"""Stands for the right reply in the option ``--reply``."""

_BLOCK = re.compile(r'^<transcript id="([0-9a-f]+)">\n(.*?)\n</transcript>$', re.DOTALL | re.MULTILINE)


def marks_of(case: int, names: list[str], highest: int) -> dict[str, int]:
    """The number in base ``highest + 1``, one digit a criterion."""
    return {name: case // (highest + 1) ** place % (highest + 1) for place, name in enumerate(names)}


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.configure(options)

    def configure(self, options: argparse.Namespace) -> None:
        """Behave as these options say, and forget everything that was counted."""
        self.options = options
        self.counts: Counter[str] = Counter()
        self.cases: Counter[str] = Counter()
        self.num_running = self.most_running = self.num_requests = 0
        self.times: list[float] = []
        self.messages: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = re.search(r"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length.group(1))) if length else b""
                if head.startswith("GET /stats"):
                    self.send(writer, 200, self.stats())
                elif head.startswith("POST /options"):
                    self.configure(build_parser().parse_args(json.loads(body)))
                    self.send(writer, 200, {})
                elif not await self.complete(writer, head, json.loads(body)):
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def stats(self) -> dict[str, Any]:
        return {
            "requests": self.num_requests,
            "most_running": self.most_running,
            "counts": self.counts,
            "cases": self.cases,
            "times": self.times,
            "messages": self.messages,
        }

    async def complete(self, writer: asyncio.StreamWriter, head: str, body: dict[str, Any]) -> bool:
        """Answer one completion; False closes the connection."""
        self.num_requests += 1
        self.messages = body["messages"]
        number = self.num_requests
        self.times.append(asyncio.get_running_loop().time())
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        try:
            options = self.options
            rng = random.Random(f"{options.seed}/{number}")
            await asyncio.sleep(options.delay_ms / 1000)
            if options.key and f"Bearer {options.key}" not in head:
                given = re.search(r"(?i)authorization: Bearer (\S+)", head).group(1)
                self.send(writer, 401, {"error": {"message": f"{options.preamble}Incorrect API key provided: {given}"}})
                return True
            form = "json_schema" if "response_format" in body else "tool" if "tools" in body else "text"
            self.counts[form] += 1
            if form not in options.forms:
                self.send(writer, 400, {"error": {"message": f"{form} is not supported"}})
                return True
            is_hit = number <= options.until and rng.random() < options.rate
            fault = rng.choice(options.faults) if is_hit else "none"
            self.counts[fault] += 1
            return await self.answer(writer, body, form, fault)
        finally:
            self.num_running -= 1

    async def answer(self, writer: asyncio.StreamWriter, body: dict[str, Any], form: str, fault: str) -> bool:
        if fault in ("429", "429_retry_after"):
            wait = {"Retry-After": self.options.retry_after} if fault == "429_retry_after" else {}
            self.send(writer, 429, {"error": {"message": "too many requests"}}, wait)
            return True
        if fault == "500":
            self.send(writer, 500, {"error": {"message": "out of memory"}})
            return True
        if fault == "503_html":
            writer.write(b"HTTP/1.1 503 x\r\ncontent-type: text/html\r\ncontent-length: 11\r\n\r\n<h1>503</h1>"[:-1])
            return True
        if fault == "hang":
            await asyncio.sleep(self.options.hang_s)
            return False
        payload = json.dumps(self.completion(self.reply(body, fault), form)).encode()
        if fault == "no_completion":
            payload = b'{"error": null, "choices": []}'
        if fault == "cut_json":
            payload = payload[: len(payload) // 2]
        if fault == "half_body":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
            writer.write(b"content-length: %d\r\n\r\n" % len(payload) + payload[: len(payload) // 2])
            await writer.drain()
            return False
        if fault == "cut_stream":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
            writer.write(b"%x\r\n" % len(payload) + payload[: len(payload) // 2])
            await writer.drain()
            return False
        self.send(writer, 200, payload)
        return True

    def reply(self, body: dict[str, Any], fault: str) -> str:
        if self.options.reply and RIGHT not in self.options.reply:
            return self.options.reply
        if body["messages"][0]["role"] != "system":
            return self.number(body, fault)
        system, question = (message["content"] for message in body["messages"][:2])
        names = re.findall(r"^- ([a-z_]+): ", system, re.MULTILINE)
        highest = int(re.search(r"whole number from 0 to (\d+)", system).group(1))
        verdicts = []
        for name, text in _BLOCK.findall(question):
            named = re.search(r"case (\d+)", text)
            case = int(named.group(1)) if named else zlib.crc32(text.encode()) % 5**7
            self.cases[str(case)] += 1
            rationale = f"case {case}{self.options.remark}"
            verdicts.append({"id": name, "rationale": rationale, "marks": marks_of(case, names, highest)})
        return (self.options.reply or RIGHT).replace(RIGHT, spoil(verdicts, fault))

    def number(self, body: dict[str, Any], fault: str) -> str:
        case = int(re.search(r"case (\d+)", body["messages"][-1]["content"]).group(1))
        self.cases[str(case)] += 1
        value = "high" if fault == "wrong_schema" else case / 1000
        text = json.dumps({"score": value}) if "response_format" in body else f"Score: {value}"
        return wrap(text, fault)

    def completion(self, text: str, form: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if form == "tool":
            call = {"id": "c", "type": "function", "function": {"name": "give_verdicts", "arguments": text}}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
        choice = {"index": 0, "finish_reason": self.options.finish_reason, "message": message}
        common = {"id": "x", "object": "chat.completion", "created": 1, "model": "judge"}
        return {**common, "choices": [choice], "usage": usage}

    def send(
        self, writer: asyncio.StreamWriter, status: int, value: Any, headers: dict[str, str] | None = None
    ) -> None:
        payload = value if isinstance(value, bytes) else json.dumps(value).encode()
        lines = [f"HTTP/1.1 {status} x", "content-type: application/json", f"content-length: {len(payload)}"]
        lines += [f"{name}: {text}" for name, text in (headers or {}).items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + payload)


def spoil(verdicts: list[dict[str, Any]], fault: str) -> str:
    """Write the reply, wrong in the way the fault says."""
    if fault == "reversed":
        verdicts = verdicts[::-1]
    if fault == "no_verdict":
        verdicts = verdicts[1:]
    if fault == "twice":
        verdicts = [*verdicts, {**verdicts[0], "marks": {name: 4 for name in verdicts[0]["marks"]}}]
    if fault == "other_id":
        verdicts = [{**verdict, "id": verdict["id"][::-1] + "0"} for verdict in verdicts]
    if fault == "wrong_schema":
        verdicts = [{**verdict, "marks": {name: "high" for name in verdict["marks"]}} for verdict in verdicts]
    return wrap(json.dumps({"verdicts": verdicts}), fault)


def wrap(text: str, fault: str) -> str:
    """Replace, cut or surround the text of a reply as the fault says."""
    return {
        "no_json": "I would give this a 10 out of 10.",
        "cut_reply": text[: len(text) // 2],
        "text_around": f"Here is my {{careful}} verdict:\n{text}\nI hope {{that}} helps.",
        "fenced": f"```json\n{text.replace(', ', ',' + chr(10))}\n```",
        "thinking": f'<think>Maybe {{"verdicts": []}} or {text[:20]}? No.</think>{text}',
    }.get(fault, text)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0, help="share of the requests that meet a fault")
    parser.add_argument("--until", type=int, default=10**9, help="requests after this many meet none")
    parser.add_argument("--faults", type=lambda text: text.split(","), default=list(TRANSIENT))
    parser.add_argument("--forms", type=lambda text: text.split(","), default=["json_schema", "tool", "text"])
    parser.add_argument("--delay_ms", type=float, default=0.0)
    parser.add_argument("--hang_s", type=float, default=30.0)
    parser.add_argument("--retry_after", default="1")
    parser.add_argument("--key", default="", help="refuse every other key, and quote it, as some servers do")
    parser.add_argument("--preamble", default="", help="what stands before the quoted key")
    parser.add_argument("--reply", default="", help=f"always this text; {RIGHT} in it is the right reply")
    parser.add_argument("--remark", default="", help="stands behind every rationale")
    parser.add_argument("--finish_reason", default="stop")
    return parser


async def main() -> None:
    server = Server(build_parser().parse_args())
    listening = await asyncio.start_server(server.serve, "127.0.0.1", server.options.port, backlog=512)
    print(listening.sockets[0].getsockname()[1], flush=True)
    async with listening:
        await listening.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)

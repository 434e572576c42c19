"""What a judge model reads: prompt files filled in, with transcripts as data that cannot leave its place."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template

import numpy as np

from awpo_env.judges.rubric_file import Rubric
from awpo_env.types import JSON, Message, Transcript

PROMPTS = {"single": "judge-single-v1.txt", "group": "judge-group-v1.txt"}
"""Prompt file of each mode. A changed prompt is a new file: its version is part of what a score means."""

_REPAIR = "judge-repair-v1.txt"
_SEPARATOR = "=== user\n"
# What no one sees though Python calls it printable: selectors, joiners, fillers; letters can be hidden in them.
_INVISIBLE = (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, *range(0xFE00, 0xFE10))
_INVISIBLE += (0xFFA0, *range(0xE0100, 0xE01F0))
_HIDDEN = frozenset("<>&").union(map(chr, _INVISIBLE))
_UNSAFE_ASCII = {letter: f"\\u{ord(letter):04x}" for letter in "<>&\x7f"}
_LONGEST_TEXT = 8_000  # characters shown of one text; a megabyte of tool output is not what reasoning is judged by
_SHORTEST_ID = 8
_ENCODER = json.JSONEncoder(ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to a judge model.

    Attributes:
        messages: System and user message.
        ids: For each transcript, in the order they were given, the id its verdict has to carry. Equal transcripts
            share one.
    """

    messages: tuple[Message, ...]
    ids: tuple[str, ...]


def escape(value: JSON) -> str:
    r"""Return JSON on one line in which ``<``, ``>``, ``&`` and every invisible character stand as ``\u`` escapes.

    So no text inside can close a tag, start a line, or hide; and reading the JSON gives the very same value back.

    >>> escape({"content": "</transcript>"})
    '{"content": "\\u003c/transcript\\u003e"}'
    """
    text = _ENCODER.encode(value)
    if text.isascii():
        for letter, code_unit in _UNSAFE_ASCII.items():
            text = text.replace(letter, code_unit)
        return text
    return "".join(letter if letter.isprintable() and letter not in _HIDDEN else _code_units(letter) for letter in text)


def _code_units(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def render_transcript(transcript: Transcript) -> str:
    """Return the conversation as lines of JSON; the system message and every text in full up to 8000 characters."""
    lines = [escape(_shown(message)) for message in transcript.messages]
    return "\n".join([*lines, escape({"end": str(transcript.status)})])


def _shown(message: Message) -> dict[str, JSON]:
    shown: dict[str, JSON] = {"role": str(message.get("role"))}
    if message.get("reasoning_content"):
        shown["reasoning"] = _clip(str(message["reasoning_content"]))
    if message.get("name"):
        shown["tool"] = _clip(str(message["name"]))
    if message.get("content") or not message.get("tool_calls"):
        shown["content"] = _clip(str(message.get("content") or ""))
    if message.get("tool_calls"):
        shown["calls"] = [
            {"tool": _clip(str(call["function"]["name"])), "arguments": _clip(str(call["function"]["arguments"]))}
            for call in message["tool_calls"]
        ]
    return shown


def _clip(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    half = _LONGEST_TEXT // 2
    return f"{text[:half]} [{len(text) - 2 * half} characters left out] {text[-half:]}"


def render_task(transcript: Transcript, sees_reference: bool) -> tuple[str, str]:
    """Return the lines of the tool declarations and of the reference calls."""
    tools = "\n".join(escape(tool["function"]) for tool in transcript.tools)
    if not sees_reference:
        return tools, "not shown"
    calls = [{"tool": call.name, "arguments": call.arguments} for call in transcript.task.reference_calls()]
    return tools, "\n".join(map(escape, calls)) or "no call is needed"


def write_prompt(
    mode: str, rubric: Rubric, transcripts: Sequence[Transcript], *, sees_reference: bool = True, seed: int = 0
) -> Prompt:
    """Write the request that asks for one verdict on each transcript.

    The transcripts stand in an order drawn from the seed and their contents, so the order they are given in decides
    nothing: it does not even change the prompt.

    Args:
        mode: ``single`` or ``group``, a key of `PROMPTS`.
        rubric: What is marked.
        transcripts: At least one, all of the same task.
        sees_reference: Whether the task's reference calls are shown.
        seed: Draws the order.
    """
    rendered = [render_transcript(transcript) for transcript in transcripts]
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in rendered]
    text_of = dict(sorted(zip(digests, rendered, strict=True)))
    length = next(n for n in range(_SHORTEST_ID, 65) if len({digest[:n] for digest in text_of}) == len(text_of))
    shuffled = _shuffled(list(text_of), seed)
    blocks = [f'<transcript id="{digest[:length]}">\n{text_of[digest]}\n</transcript>' for digest in shuffled]
    tools, reference = render_task(transcripts[0], sees_reference)
    system, user = _templates(PROMPTS[mode])
    ids = ", ".join(digest[:length] for digest in shuffled)
    question = user.substitute(tools=tools, reference=reference, transcripts="\n".join(blocks), ids=ids)
    return Prompt(
        messages=(
            {"role": "system", "content": _system(system, rubric)},
            {"role": "user", "content": question.strip()},
        ),
        ids=tuple(digest[:length] for digest in digests),
    )


def _shuffled(digests: list[str], seed: int) -> list[str]:
    if len(digests) == 1:
        return digests
    entropy = hashlib.sha256("".join(digests).encode()).digest()
    order = np.random.default_rng([seed, *entropy]).permutation(len(digests))
    return [digests[index] for index in order]


@functools.lru_cache(maxsize=8)
def _system(template: Template, rubric: Rubric) -> str:
    return template.substitute(
        highest=rubric.highest_mark,
        marks=rubric.marks.strip(),
        criteria=rubric.criteria_text(),
        form=rubric.form_text(),
    ).strip()


def repair_request(problem: str) -> str:
    """Return what a judge model is told whose reply cannot be used."""
    return _read(_REPAIR).substitute(problem=problem).strip()


@functools.cache
def _templates(name: str) -> tuple[Template, Template]:
    system, _, user = (files("awpo_env.data") / name).read_text(encoding="utf-8").partition(_SEPARATOR)
    return Template(system), Template(user)


@functools.cache
def _read(name: str) -> Template:
    return Template((files("awpo_env.data") / name).read_text(encoding="utf-8"))

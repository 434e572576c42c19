"""Docstrings in Google or reST style: what a function does, and what each argument is."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns|Yields|Raises|Examples?|Notes?|See Also|Attributes):\s*")
_GOOGLE_ARGUMENT = re.compile(r"(?P<indent>\s+)\*{0,2}(?P<name>\w+)\s*(\([^)]*\))?:\s*(?P<text>.*)")
_REST_FIELD = re.compile(r":(?P<field>\w+)[^:]*?(?P<name>\w+)?:\s*(?P<text>.*)")


@dataclass(frozen=True, slots=True)
class Docstring:
    """What a docstring says.

    Attributes:
        summary: Everything before the first section, as one paragraph a paragraph.
        arguments: Descriptions by argument, each on one line.
    """

    summary: str
    arguments: dict[str, str]


def read_docstring(text: str) -> Docstring:
    """Take a docstring apart. What is in neither style is part of the summary.

    Args:
        text: The docstring without its common indentation (`inspect.getdoc`).

    >>> read_docstring("Add.\\n\\nArgs:\\n    a: One.\\n    b (int): Two,\\n        or more.").arguments
    {'a': 'One.', 'b': 'Two, or more.'}
    """
    lines = text.splitlines()
    end = next((number for number, line in enumerate(lines) if _starts_section(line)), len(lines))
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines[:end]).strip())
    summary = "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return Docstring(summary, {**_google_arguments(lines[end:]), **_rest_arguments(lines[end:])})


def _starts_section(line: str) -> bool:
    return bool(_SECTION.fullmatch(line) or line.startswith((":param", ":return", ":raise", ":type")))


def _google_arguments(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    is_inside, indent, name = False, "", ""
    for line in lines:
        if _SECTION.fullmatch(line):
            is_inside, indent = line.startswith(("Args", "Arguments", "Parameters")), ""
        elif is_inside and line.strip():
            match = _GOOGLE_ARGUMENT.fullmatch(line)
            if match and (not indent or match["indent"] == indent):
                indent, name = match["indent"], match["name"]
                found[name] = match["text"].strip()
            elif name:
                found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _rest_arguments(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if match := _REST_FIELD.fullmatch(line):
            name = (match["name"] or "") if match["field"] == "param" else ""
            if name:
                found[name] = match["text"].strip()
        elif name and line.startswith((" ", "\t")) and line.strip():
            found[name] = f"{found[name]} {line.strip()}"
        else:
            name = ""
    return found

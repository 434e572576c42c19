"""Reading a judge model's reply: any text becomes one verdict an id, or says why it cannot be used."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from awpo_env.judges.rubric_file import Rubric
from awpo_env.types import JSON, Score

_LONGEST_REPLY = 40_000  # characters; nothing longer is a verdict, and looking for JSON in it takes time
_LONGEST_PROBLEM = 300
_LONGEST_RATIONALE = 2_000
_START_OF_THOUGHT, _END_OF_THOUGHT = "<think>", "</think>"


class InvalidReply(Exception):
    """A reply that cannot be used; the text says why, in words the model can act on.

    It quotes nothing of the reply, which may quote a transcript: the text goes back to the model, outside of the
    places where transcripts stand.
    """


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge model said about one transcript.

    Attributes:
        rationale: Why.
        marks: Whole numbers by criterion; None where one does not apply.
    """

    rationale: str
    marks: dict[str, int | None]

    def score(self, rubric: Rubric) -> Score:
        """Return the score these marks add up to."""
        return Score(min(1.0, rubric.value(self.marks)), self.rationale, rubric.parts(self.marks))


def read_reply(text: str, rubric: Rubric, ids: Sequence[str]) -> dict[str, Verdict]:
    """Find the verdicts in a reply and match them by id, whatever stands around them and in whatever order.

    Args:
        text: The reply; anything.
        rubric: What was asked for.
        ids: Distinct ids of the transcripts that were asked about.

    Raises:
        InvalidReply: There is no verdict, more than one of the same transcript, or one that breaks the schema.
    """
    try:
        verdicts = _only_verdicts(_after_thought(text)[:_LONGEST_REPLY], rubric, ids)
    except RecursionError:
        raise InvalidReply("it is nested more deeply than any verdict") from None
    return {
        entry["id"]: Verdict(
            writable(entry["rationale"][:_LONGEST_RATIONALE]),
            {name: None if mark is None else int(mark) for name, mark in entry["marks"].items()},
        )
        for entry in verdicts
    }


def writable(text: str) -> str:
    r"""Return a text with a question mark for each lone surrogate, which no file or request could hold.

    >>> writable("half a pair: \ud83d")
    'half a pair: ?'
    """
    return text.encode("utf-8", "replace").decode()


def _after_thought(text: str) -> str:
    """Return what a model says after its own thinking; a draft in the middle of a thought is no verdict."""
    said = text
    while not (is_object := _is_object(said)) and _END_OF_THOUGHT in said:
        said = said.partition(_END_OF_THOUGHT)[2]
    # In a verdict the tags are words of its rationale: transcripts may be about them.
    if not is_object and _START_OF_THOUGHT in said:
        raise InvalidReply(f"it ends before {_END_OF_THOUGHT}; think less and give the verdict")
    return said


def _is_object(text: str) -> bool:
    """Whether a text is one JSON object and nothing else."""
    try:
        return text.lstrip().startswith("{") and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _only_verdicts(text: str, rubric: Rubric, ids: Sequence[str]) -> list[dict[str, JSON]]:
    """Return the one list of verdicts that stands in a text."""
    validator = _validator(rubric, len(ids))
    found, problem = [], "there is no JSON object in it"
    for value in _json_objects(text):
        if not isinstance(value.get("verdicts"), list):
            problem = "the JSON object has no list 'verdicts'"
            continue
        if mismatch := _id_problem(value["verdicts"], ids):
            problem = mismatch
        elif not _fits(value, rubric) and (error := best_match(validator.iter_errors(value))):
            problem = f'{error.json_path} breaks "{error.validator}": {json.dumps(error.validator_value)}'
        elif value not in found:
            found.append(value)
    if len(found) > 1:
        problem = "it holds several different verdicts"
    if len(found) != 1:
        raise InvalidReply(problem[:_LONGEST_PROBLEM])
    return found[0]["verdicts"]


@functools.lru_cache(maxsize=64)
def _validator(rubric: Rubric, num_ids: int) -> Draft202012Validator:
    """Compiled once for any ids; those are compared by hand, which also says which one is missing."""
    schema = rubric.schema([""] * num_ids)
    schema["properties"]["verdicts"]["items"]["properties"]["id"] = {"type": "string"}
    return Draft202012Validator(schema)


def _fits(value: dict[str, JSON], rubric: Rubric) -> bool:
    """Whether the schema allows a list of verdicts, told quickly: the validator, which also says why, takes long."""
    is_optional = {criterion.name: criterion.optional for criterion in rubric.criteria}
    return value.keys() == {"verdicts"} and all(
        isinstance(entry, dict)
        and entry.keys() == {"id", "rationale", "marks"}
        and isinstance(entry["id"], str)
        and isinstance(entry["rationale"], str)
        and isinstance(entry["marks"], dict)
        and entry["marks"].keys() == is_optional.keys()
        and all(
            is_optional[name] if mark is None else type(mark) is int and 0 <= mark <= rubric.highest_mark
            for name, mark in entry["marks"].items()
        )
        for entry in value["verdicts"]
    )


def _id_problem(verdicts: Sequence[JSON], ids: Sequence[str]) -> str:
    given = Counter(str(entry.get("id")) for entry in verdicts if isinstance(entry, dict))
    problems = [f"no verdict for id {wanted}" for wanted in ids if wanted not in given]
    problems += ["an id that was not asked about"] if given.keys() - set(ids) else []
    problems += [f"{given[wanted]} verdicts for id {wanted}" for wanted in ids if given[wanted] > 1]
    return "; ".join(problems)


def _json_objects(text: str) -> Iterator[dict[str, JSON]]:
    """Yield every JSON object of a text that does not lie within another."""
    position = 0
    while (position := text.find("{", position)) >= 0:
        try:
            value, position = _DECODER.raw_decode(text, position)
        except RecursionError:
            return  # nested like no verdict is, and slow to look through
        except ValueError:
            position += 1
        else:
            yield value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    """Build an object; of a key that stands there twice, nobody knows which value was meant."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise InvalidReply("a key stands twice in one JSON object")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_object)

"""How a judge model in process is read: the probabilities of its marks, or the reply it writes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Protocol

from awpo_agent.judge_model import Ids, JudgeModel, Place, Question, common_beginning
from awpo_env.errors import UsageError
from awpo_env.judges.replies import InvalidReply, read_reply
from awpo_env.judges.rubric_file import Rubric
from awpo_env.types import Score

_APPLIES = 0.5  # an optional criterion is shown among a score's parts from this probability on


class Reading(Protocol):
    """A way to get a score out of a model."""

    def question(self, prompt: Ids, name: str) -> Question:
        """Return what the model is given.

        Args:
            prompt: Token ids up to where the reply begins.
            name: The id of the transcript.
        """
        ...

    def replies(self, questions: Sequence[Question]) -> list[str]:
        """Return what the model replies, in one batch."""
        ...

    def score(self, reply: str, question: Question) -> Score:
        """Return the score in a reply; missing where there is none.

        Raises:
            InvalidReply: It is no reply to this question.
        """
        ...


class ExpectedMarks:
    """Reads each mark as its expectation under the model, where the marks stand in the reply the prompt asks for.

    Every criterion is read by itself, with no mark of another before it: so the order of criteria decides nothing.

    Args:
        model: Is read.
        rubric: What is marked.
        least_mass: See `LocalJudgeSettings`.

    Raises:
        UsageError: Two marks begin with the same token.
    """

    def __init__(self, model: JudgeModel, rubric: Rubric, least_mass: float) -> None:
        self._model, self._rubric, self._least_mass = model, rubric, least_mass
        self.question((), "0")

    def question(self, prompt: Ids, name: str) -> Question:
        """See `Reading.question`."""
        places = tuple(self._place(name, criterion.name, criterion.optional) for criterion in self._rubric.criteria)
        longest = max(len(place.beginning) + len(place.chain) for place in places)
        return Question(name, prompt, places, len(prompt) + longest)

    def replies(self, questions: Sequence[Question]) -> list[str]:
        """Return each criterion's probabilities as JSON; see `JudgeModel.mark_probabilities`."""
        return [json.dumps(rows) for rows in self._model.mark_probabilities(questions)]

    def score(self, reply: str, question: Question) -> Score:
        """See `Reading.score` and `expected_score`."""
        try:
            rows = json.loads(reply)
            fits = [len(row) for row in rows] == [len(place.marks) for place in question.places]
            fits = fits and all(isinstance(share, float) and math.isfinite(share) for row in rows for share in row)
        except (ValueError, TypeError):
            fits = False
        if not fits:
            raise InvalidReply("its probabilities are not one number for each mark")
        return expected_score(rows, self._rubric, self._least_mass)

    def _place(self, name: str, criterion: str, is_optional: bool) -> Place:
        text = f'{{"verdicts": [{{"id": {json.dumps(name)}, "rationale": "", "marks": {{"{criterion}": '
        marks = [str(mark) for mark in range(self._rubric.highest_mark + 1)] + ["null"] * is_optional
        # Encoded whole: a tokenizer may write the space before a mark alone, or as one with it.
        wholes = [tuple(self._model.tokenizer.encode(text + mark, add_special_tokens=False)) for mark in marks]
        beginning = common_beginning(wholes)
        rests = [whole[len(beginning) :] for whole in wholes]
        lengths = [_telling_length(rest, rests) for rest in rests]
        tokens = tuple(rest[:length] for rest, length in zip(rests, lengths, strict=True))
        chain = max((mark[:-1] for mark in tokens), key=len)
        if 0 in lengths or not beginning or any(mark[:-1] != chain[: len(mark) - 1] for mark in tokens):
            raise UsageError(
                f"the tokenizer cannot tell the marks {', '.join(marks)} apart by their first tokens; expected a "
                "rubric with highest_mark 9 or less, or method 'generate'"
            )
        return Place(beginning, tokens, chain)


def expected_score(probabilities: Sequence[Sequence[float]], rubric: Rubric, least_mass: float) -> Score:
    """Return the score whose marks are expectations. Source: ours; Liu et al. 2023 (G-Eval) for the expectation.

    ``value = sum(w_c a_c m_c) / (highest * sum(w_c a_c))`` with ``m_c`` the mean mark of criterion `c` under the
    probabilities of its marks, and ``a_c`` the probability that it applies: 1, or where the criterion is optional the
    share of the marks against None.

    Args:
        probabilities: For each criterion, those of the marks from 0 on, and of None where it is optional.
        rubric: What was marked.
        least_mass: What each criterion's probabilities have to add up to, or the score is missing.
    """
    total = weight = 0.0
    parts: dict[str, float] = {}
    for criterion, row in zip(rubric.criteria, probabilities, strict=True):
        mass = math.fsum(row)
        if mass < max(least_mass, math.ulp(0.0)):
            return Score.missing(
                f"the judge gave no verdict: marks have {mass:.2g} of its probability at {criterion.name!r}, less than "
                f"least_mass {least_mass:g}"
            )
        marks = row[: rubric.highest_mark + 1]
        given = math.fsum(marks)
        if given == 0.0:
            continue
        mark = math.fsum(mark * share for mark, share in enumerate(marks)) / (given * rubric.highest_mark)
        total += criterion.weight * (given / mass) * mark
        weight += criterion.weight * (given / mass)
        if given / mass >= _APPLIES:
            parts[criterion.name] = min(1.0, mark)
    if weight == 0.0:
        return Score.missing("the judge gave no verdict: no criterion has a mark")
    return Score(min(1.0, total / weight), "expected marks", parts)


class WrittenReplies:
    """Lets the model write its reply, token by token the likeliest, and reads it as `LLMJudge` reads a server's.

    Args:
        model: Writes.
        rubric: What is marked.
        max_new_tokens: Longest reply.
    """

    def __init__(self, model: JudgeModel, rubric: Rubric, max_new_tokens: int) -> None:
        self._model, self._rubric, self._max_new_tokens = model, rubric, max_new_tokens

    def question(self, prompt: Ids, name: str) -> Question:
        """See `Reading.question`."""
        return Question(name, prompt, (), len(prompt) + self._max_new_tokens)

    def replies(self, questions: Sequence[Question]) -> list[str]:
        """See `Reading.replies`."""
        schemas = [self._rubric.schema([question.id]) for question in questions]
        return self._model.write(questions, schemas, self._max_new_tokens)

    def score(self, reply: str, question: Question) -> Score:
        """See `Reading.score`."""
        return read_reply(reply, self._rubric, [question.id])[question.id].score(self._rubric)


def _telling_length(row: Ids, rows: Sequence[Ids]) -> int:
    """Return how many tokens tell a row from all others, or 0 if none do."""
    lengths = range(1, len(row) + 1)
    return next((n for n in lengths if sum(other[:n] == row[:n] for other in rows) == 1), 0)

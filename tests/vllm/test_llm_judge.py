"""`LLMJudge` against real servers: vLLM, which constrains replies, and `transformers serve`, which does not.

See `judge_by_heart` for the judge model.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_by_heart import KNOWN, assert_known, case

from awpo_env.judges.llm import LLMJudge
from awpo_env.judges.prompts import write_prompt

free_port = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["free_port"]


@pytest.fixture(scope="session")
def vllm_judge(judge_model: Path, start_server: Callable[..., Any]) -> Any:
    """vLLM with the judge model."""
    flags = ("--served-model-name", "judge", "--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    server = start_server(judge_model, *flags)
    server.wait()
    return server


@pytest.fixture(scope="session")
def transformers_judge(judge_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `transformers serve`; the model's name there is its folder."""
    folder, port = tmp_path_factory.mktemp("transformers"), free_port()
    (folder / "hf" / "hub").mkdir(parents=True)
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(judge_model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **environment}, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 240
        while not is_healthy(port):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "server.log").read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def is_healthy(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False
    return True


@pytest.fixture
def make_judge(rubric: Path) -> Iterator[Callable[..., LLMJudge]]:
    made: list[LLMJudge] = []

    def build(url: str, **settings: Any) -> LLMJudge:
        usual = {"model": "judge", "cache_dir": None, "max_tokens": 120, "timeout_s": 120.0, "rubric": str(rubric)}
        made.append(LLMJudge(base_url=url, **{**usual, **settings}))
        return made[-1]

    yield build
    for judge in made:
        judge.close()


@pytest.mark.parametrize("form", ["json_schema", "text"])
def test_what_the_model_knows_is_what_is_scored(vllm_judge, make_judge, form):
    judge = make_judge(f"{vllm_judge.url}/v1", reply_form=form)
    assert_known(judge.score([case(number) for number in KNOWN]))
    assert judge.totals.requests == len(KNOWN) and judge.totals.prompt_tokens > 400 * len(KNOWN)


def test_a_forced_tool_call_holds_a_valid_verdict_or_none(vllm_judge, make_judge):
    judge = make_judge(f"{vllm_judge.url}/v1", reply_form="tool", max_attempts=1)
    scores = judge.score([case(number) for number in KNOWN])
    # The server spaces the arguments unlike what the model has learned, so it may lose its thread after a few words.
    for number, score in zip(KNOWN, scores, strict=True):
        if score.is_missing:
            assert "unusable reply" in score.reason
            continue
        assert score.reason.startswith(f"case {number}")
        assert {part * 4 for part in score.parts.values()} <= {0, 1, 2, 3, 4}
    assert sum(score.is_missing for score in scores) <= len(KNOWN) / 2


def test_hundreds_at_once_are_each_scored_as_if_they_were_alone(vllm_judge, make_judge):
    numbers = [*KNOWN, *range(1000, 1294)]
    judge = make_judge(f"{vllm_judge.url}/v1", reply_form="json_schema", concurrency=64, max_attempts=2)
    scores = judge.score([case(number) for number in numbers])
    assert_known(scores[: len(KNOWN)])
    scored = [number for number, score in zip(numbers, scores, strict=True) if not score.is_missing]
    # A tiny model may write a rationale without end; constrained as it is, nothing else can go wrong.
    assert len(scored) >= 0.9 * len(numbers), {score.reason for score in scores if score.is_missing}
    for score in scores:
        assert score.is_missing or all(part * 4 in range(5) for part in score.parts.values())
        assert not score.is_missing or "unusable reply" in score.reason
    few = scored[:: len(scored) // 20]
    alone = make_judge(f"{vllm_judge.url}/v1", reply_form="json_schema", concurrency=1).score([case(n) for n in few])
    together = [scores[numbers.index(number)] for number in few]
    assert sum(one == other for one, other in zip(alone, together, strict=True)) >= len(few) - 2  # rounding in batches


def test_a_restart_in_the_middle_loses_nothing(vllm_judge, make_judge):
    patient = {"concurrency": 2, "max_attempts": 3, "breaker_failures": 2, "total_timeout_s": 400.0}
    judge = make_judge(f"{vllm_judge.url}/v1", reply_form="text", **patient)
    asked = threading.Event()

    def restart() -> None:
        asked.wait(60)
        vllm_judge.kill()
        vllm_judge.start()

    thread = threading.Thread(target=restart)
    thread.start()
    first = judge.score([case(0)])
    asked.set()
    try:
        scores = first + judge.score([case(number) for number in KNOWN][1:])
    finally:
        thread.join()
        vllm_judge.wait()
    assert_known(scores)
    assert judge.totals.failures["connection"] > 0, "the server was away"


def test_a_server_that_does_not_constrain_is_read_tolerantly_or_not_at_all(transformers_judge, judge_model, make_judge):
    judge = make_judge(transformers_judge, model=str(judge_model), max_attempts=1)
    scores = judge.score([case(number) for number in (*KNOWN, 2000, 2001)])
    assert_known(scores[: len(KNOWN)])
    ids = [write_prompt("single", judge.rubric, [case(number)]).ids[0] for number in (2000, 2001)]
    for score in scores[len(KNOWN) :]:
        # It says by heart what it was asked about others, and their ids are not these.
        assert score.is_missing and "unusable reply" in score.reason, (score, ids)

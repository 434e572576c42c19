"""The judge that asks a model, against a real server that misbehaves: every score right, or missing with its reason."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from awpo_env.errors import UsageError
from awpo_env.judges.base import AsyncJudge
from awpo_env.judges.prompts import write_prompt
from awpo_env.judges.rubric_file import Rubric
from awpo_env.types import EpisodeStatus, Score

FAULTS = runpy.run_path(str(Path(__file__).with_name("fault_server.py")))
RUBRIC = Rubric.load()
NAMES = [criterion.name for criterion in RUBRIC.criteria]


def right_score(number: int) -> Score:
    """Worked out from the case's number: a digit of base 5 for each criterion, weighed as in the rubric file."""
    marks = {name: number // 5**place % 5 for place, name in enumerate(NAMES)}
    weights = {criterion.name: criterion.weight for criterion in RUBRIC.criteria}
    value = sum(weights[name] * mark for name, mark in marks.items()) / (4 * sum(weights.values()))
    return Score(value, f"case {number}", {name: mark / 4 for name, mark in marks.items()})


def assert_right(scores: list[Score], numbers: list[int]) -> None:
    assert len(scores) == len(numbers)
    for score, number in zip(scores, numbers, strict=True):
        right = right_score(number)
        assert not score.is_missing, score.reason
        assert (score.reason, score.parts) == (right.reason, right.parts)
        assert score.value == pytest.approx(right.value)


def test_the_weights_of_the_default_rubric_make_the_score(serve, make_judge, case):
    (score,) = make_judge(serve()).score([case(4)])  # 4 of 4 for `grounded`, weight 2 of 13, nothing for the rest
    assert score.value == pytest.approx(2 / 13)
    assert score.parts["grounded"] == 1.0 and score.parts["finishes"] == 0.0


@pytest.mark.parametrize("fault", FAULTS["TRANSIENT"])
def test_a_passing_fault_changes_no_score(serve, make_judge, case, fault):
    server = serve(rate=1, until=2, faults=fault, retry_after="0.01", delay_ms=1)
    judge = make_judge(server, timeout_s=2 if fault == "hang" else 30, concurrency=2)
    numbers = list(range(1, 7))
    assert_right(judge.score([case(number) for number in numbers]), numbers)
    assert server.stats()["counts"][fault] == 2


@pytest.mark.parametrize("fault", [*FAULTS["TRANSIENT"]])
def test_a_lasting_fault_is_missing_and_never_a_number(serve, make_judge, case, fault):
    server = serve(rate=1, faults=fault, retry_after="0.01")
    judge = make_judge(server, timeout_s=0.2 if fault == "hang" else 30, max_attempts=2, concurrency=1)
    (score,) = judge.score([case(3)])
    assert score.is_missing and score.reason.startswith("the judge gave no verdict: ")
    assert judge.totals.missing == 1
    is_repaired = fault in ("no_json", "wrong_schema", "other_id", "no_verdict", "twice", "cut_reply")
    assert judge.totals.requests == (4 if is_repaired else 2)
    assert judge.totals.repairs == (2 if is_repaired else 0)


@pytest.mark.parametrize("style", FAULTS["HARMLESS"])
def test_unusual_replies_cost_no_second_request(serve, make_judge, case, style):
    server = serve(rate=1, faults=style, forms="text")
    judge = make_judge(server, mode="group", reply_form="text")
    assert_right(judge.score([case(number) for number in (7, 8, 9)]), [7, 8, 9])
    assert server.stats()["requests"] == 1


@pytest.mark.parametrize(("forms", "asked"), [("tool,text", 2), ("text", 3)])
def test_the_first_form_the_server_accepts_is_kept(serve, make_judge, case, forms, asked):
    server = serve(forms=forms)
    judge = make_judge(server)
    assert_right(judge.score([case(5)]), [5])
    assert server.stats()["requests"] == asked
    assert_right(judge.score([case(6)]), [6])
    assert server.stats()["requests"] == asked + 1


def test_a_form_that_was_asked_for_is_not_changed(serve, make_judge, case):
    (score,) = make_judge(serve(forms="text"), reply_form="tool").score([case(5)])
    assert score.reason == "the judge gave no verdict: HTTP 400: tool is not supported"


def test_a_refusal_is_final(serve, make_judge, case, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "wrong")
    server = serve(key="right")
    (score,) = make_judge(server, api_key_env="JUDGE_KEY").score([case(5)])
    assert score.is_missing and score.reason.endswith("HTTP 401: Incorrect API key provided: [key]")
    assert server.stats()["requests"] == 1


def test_not_even_half_a_key_is_quoted(serve, make_judge, case, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-0123456789")
    for length in (165, 170):  # the quoted message is cut after 200 characters
        server = serve(key="right", preamble="." * length)
        (score,) = make_judge(server, api_key_env="JUDGE_KEY").score([case(5)])
        assert "sk-" not in score.reason


def test_no_key_is_ever_written_down(serve, make_judge, case, monkeypatch, tmp_path, caplog, capfd):
    secret = "sk-do-not-tell-4711"
    monkeypatch.setenv("JUDGE_KEY", secret)
    monkeypatch.setenv("OTHER_KEY", f"{secret}-other")
    caplog.set_level(logging.DEBUG)
    judge = make_judge(serve(key=secret), api_key_env="JUDGE_KEY", cache_dir=str(tmp_path / "cache"))
    assert_right(judge.score([case(5)]), [5])
    refused = make_judge(serve(key=secret), api_key_env="OTHER_KEY", cache_dir=str(tmp_path / "other"))
    echoed = make_judge(serve(reply=f"your key is {secret}"), api_key_env="JUDGE_KEY", max_attempts=1)
    scores = refused.score([case(6)]) + echoed.score([case(6)])
    seen = [
        repr(judge.settings),
        str(pickle.dumps(judge)),
        *(repr(score) for score in scores),
        caplog.text,
        *capfd.readouterr(),
    ]
    seen += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert len(list(tmp_path.rglob("*.jsonl"))) == 2
    assert not [text for text in seen if secret in text]


def test_retry_after_is_waited_for_by_everybody(serve, make_judge, case):
    server = serve(rate=1, until=1, faults="429_retry_after", retry_after="1")
    judge = make_judge(server, concurrency=2)
    assert_right(judge.score([case(1)]), [1])
    first, second = server.stats()["times"]
    assert second - first >= 0.99


def test_a_pause_longer_than_the_time_there_is_ends_at_once(serve, make_judge, case):
    server = serve(rate=1, faults="429_retry_after", retry_after="3600")
    judge = make_judge(server, total_timeout_s=3000, concurrency=1)  # whoever waits instead is seen to
    scores = judge.score([case(number) for number in range(20)])
    assert all(score.is_missing for score in scores)
    assert "HTTP 429" in scores[0].reason and "nothing may be sent for" in scores[1].reason
    assert server.stats()["requests"] == 1


def test_there_are_never_more_requests_at_once_than_allowed(serve, make_judge, case):
    server = serve(delay_ms=20)
    judge = make_judge(server, concurrency=3)
    numbers = list(range(24))
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(judge.score, [[case(n) for n in numbers[i::4]] for i in range(4)]))
    for i, part in enumerate(parts):
        assert_right(part, numbers[i::4])
    assert 1 < server.stats()["most_running"] <= 3


def test_no_prompt_is_written_before_its_turn(serve, make_judge, case, monkeypatch):
    server = serve()
    seen = []

    def write(*args, **settings):
        seen.append(server.stats()["requests"])
        return write_prompt(*args, **settings)

    monkeypatch.setattr("awpo_env.judges.llm.write_prompt", write)
    assert_right(make_judge(server, concurrency=2).score([case(number) for number in range(8)]), list(range(8)))
    assert len(seen) == 8 and all(num_requests >= number - 2 for number, num_requests in enumerate(seen))


def test_what_speaks_no_http_is_a_failed_connection(make_judge, case):
    answers = [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 302 x\r\nlocation: ftp://h/\r\n\r\n", b""]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            for text in answers:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(2**20)
                    connection.sendall(text)

        thread = threading.Thread(target=answer)
        thread.start()
        judge = make_judge(max_attempts=3, base_url=f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
        (score,) = judge.score([case(1)])
        thread.join()
    assert score.is_missing and "the connection failed" in score.reason
    assert judge.totals.failures == {"connection": 3}


def test_a_judge_that_nobody_closed_says_nothing_at_the_end(serve):
    program = f"""
        import runpy
        from awpo_env.judges.llm import LLMJudge
        case = runpy.run_path({str(Path(__file__).with_name("conftest.py"))!r})["case_transcript"]
        judge = LLMJudge(model="judge", base_url={serve().url!r}, cache_dir=None)
        assert judge.score([case(1)])[0].reason == "case 1"
    """
    command = [sys.executable, "-W", "always", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_rates_are_kept_and_their_wait_is_not_held_against_a_judgement(serve, make_judge, case):
    judge = make_judge(serve(), requests_per_minute=300, total_timeout_s=1.5)
    start = time.monotonic()
    assert_right(judge.score([case(number) for number in range(16)]), list(range(16)))
    assert time.monotonic() - start >= 2.99  # one every fifth of a second, none in advance


def test_tokens_a_minute_are_kept(serve, make_judge, case):
    prompt = write_prompt("single", RUBRIC, [case(0)])
    cost = sum(len(message["content"]) for message in prompt.messages) // 4 + 5_000
    # A request costs what is allowed in 0.7 seconds.
    judge = make_judge(serve(), tokens_per_minute=60 / 0.7 * cost, max_tokens=5_000)
    start = time.monotonic()
    assert_right(judge.score([case(number) for number in range(3)]), [0, 1, 2])
    assert time.monotonic() - start >= 1.39


def test_an_outage_costs_few_requests_and_nobody_waits_for_long(serve, make_judge, case):
    server = serve()
    server.kill()
    judge = make_judge(server, concurrency=4, total_timeout_s=1.0, breaker_failures=3, breaker_pause_s=60)
    scores = judge.score([case(number) for number in range(300)])
    assert all(score.is_missing for score in scores)
    assert "the connection failed: ConnectionRefusedError" in scores[0].reason
    assert judge.totals.failures.keys() == {"connection"}
    assert judge.totals.requests <= 2 + 4, "two before the breaker opens, and whatever was under way"


def test_a_server_that_comes_back_is_used_again(serve, make_judge, case):
    server = serve()
    judge = make_judge(server, concurrency=8, breaker_failures=3, max_attempts=3)
    assert_right(judge.score([case(0)]), [0])
    server.kill()
    threading.Timer(1.0, lambda: serve(port=server.port)).start()
    assert_right(judge.score([case(number) for number in range(1, 40)]), list(range(1, 40)))


def test_a_server_that_starts_late_is_waited_for_by_one_request_alone(serve, make_judge, case):
    server = serve()
    server.kill()
    judge = make_judge(server, concurrency=1, breaker_failures=1000, max_attempts=1)
    threading.Timer(1.0, lambda: serve(port=server.port)).start()
    assert_right(judge.score([case(1)]), [1])
    assert judge.totals.failures["connection"] > 1


def test_what_cannot_be_judged_is_not_asked_about(serve, make_judge, case):
    server = serve()
    judge = make_judge(server, max_prompt_chars=10_000)
    broken = case(1, status=EpisodeStatus.ENVIRONMENT_ERROR)
    long = case(2, messages=tuple({"role": "user", "content": "case 2 " * 1000} for _ in range(9)))
    scores = judge.score([broken, case(3), long])
    assert scores[0].is_missing and "environment broke" in scores[0].reason
    assert scores[2].is_missing and "max_prompt_chars" in scores[2].reason
    assert_right(scores[1:2], [3])
    assert server.stats()["requests"] == 1


def test_equal_transcripts_are_asked_about_once(serve, make_judge, case):
    for mode in ("single", "group"):
        server = serve()
        judge = make_judge(server, mode=mode)
        assert_right(judge.score([case(3), case(4), case(3)]), [3, 4, 3])
        assert server.stats()["cases"] == {"3": 1, "4": 1}
        assert judge.compares == (mode == "group")


def test_a_group_is_split_evenly_and_independently_of_its_order(serve, make_judge, case):
    server = serve()
    judge = make_judge(server, mode="group", group_size=4, concurrency=1)
    numbers = list(range(9))
    assert_right(judge.score([case(number) for number in numbers]), numbers)
    assert server.stats()["requests"] == 3
    other = case(50)
    other = replace(other, task=replace(other.task, id="train/other"))
    assert_right(judge.score([case(1), other]), [1, 50])
    assert server.stats()["requests"] == 5, "two tasks are never compared"


def test_judging_on_an_event_loop_blocks_nobody(serve, make_judge, case):
    judge = make_judge(serve(delay_ms=300))
    assert isinstance(judge, AsyncJudge)

    async def both() -> int:
        judging = asyncio.create_task(judge.score_async([case(1), case(2)]))
        num_ticks = 0
        while not judging.done():
            await asyncio.sleep(0.001)
            num_ticks += 1
        assert_right(judging.result(), [1, 2])
        return num_ticks

    assert asyncio.run(both()) > 5


def test_a_pickled_judge_asks_the_same_server(serve, make_judge, case):
    judge = make_judge(serve())
    twin = pickle.loads(pickle.dumps(judge))
    assert_right(twin.score([case(9)]), [9])
    twin.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_judge_has_connections_of_its_own(serve, tmp_path):
    server = serve()
    program = f"""
        import os, runpy
        from awpo_env.judges.llm import LLMJudge
        case = runpy.run_path({str(Path(__file__).with_name("conftest.py"))!r})["case_transcript"]
        judge = LLMJudge(model="judge", base_url={server.url!r}, cache_dir={str(tmp_path)!r})
        before = judge.score([case(1)])
        child = os.fork()
        scores = judge.score([case(1), case(2)])
        if not child:
            os._exit(0 if scores[0] == before[0] and scores[1].reason == "case 2" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert scores[1].reason == "case 2"
        judge.close()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.stats()["cases"]["1"] == 1


def test_a_closed_judge_says_so(serve, make_judge, case):
    judge = make_judge(serve())
    judge.close()
    judge.close()
    with pytest.raises(UsageError, match="closed"):
        judge.score([case(1)])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["single", "group"])
def test_a_thousand_transcripts_at_thirty_percent_faults(serve, make_judge, case, mode, tmp_path):
    faults = ",".join(FAULTS["TRANSIENT"] + FAULTS["HARMLESS"])
    server = serve(rate=0.48, faults=faults, retry_after="0.01", hang_s=60)  # 15 kinds of 19 are true faults
    judge = make_judge(server, mode=mode, timeout_s=5, max_attempts=6, cache_dir=str(tmp_path), concurrency=16)
    numbers = list(range(1000))
    scores = judge.score([case(number) for number in numbers])
    scored = [number for number in numbers if not scores[number].is_missing]
    assert len(scored) >= 990, Counter(score.reason for score in scores if score.is_missing)
    assert_right([scores[number] for number in scored], scored)
    assert all(score.reason for score in scores)
    stats = server.stats()
    assert sum(stats["counts"].get(fault, 0) for fault in FAULTS["TRANSIENT"]) >= 0.3 * stats["requests"]
    before = judge.totals.requests
    again = judge.score([case(number) for number in scored]) if mode == "single" else []
    assert_right(again, scored if mode == "single" else [])
    assert judge.totals.requests == before, "a second run costs no call"


@pytest.mark.slow
def test_a_server_restart_in_the_middle_loses_nothing(serve, make_judge, case):
    server = serve(delay_ms=20)
    judge = make_judge(server, concurrency=16, max_attempts=4)
    numbers = list(range(400))

    def restart() -> None:
        while server.stats()["requests"] < 100:
            time.sleep(0.05)
        server.kill()
        time.sleep(1.0)
        serve(port=server.port, delay_ms=20)

    thread = threading.Thread(target=restart)
    thread.start()
    scores = judge.score([case(number) for number in numbers])
    thread.join()
    assert_right(scores, numbers)


@pytest.mark.slow
def test_after_kill_9_no_reply_is_bought_twice(serve, case, tmp_path):
    server = serve(delay_ms=30)
    program = f"""
        import runpy
        from awpo_env.judges.llm import LLMJudge
        case = runpy.run_path({str(Path(__file__).with_name("conftest.py"))!r})["case_transcript"]
        judge = LLMJudge(model="judge", base_url={server.url!r}, cache_dir={str(tmp_path)!r}, concurrency=4)
        scores = judge.score([case(number) for number in range(200)])
        print(sum(score.is_missing for score in scores), judge.totals.requests, judge.totals.cache_hits)
        judge.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE)
    ledger = tmp_path / "ledger.jsonl"
    while not ledger.exists() or len(ledger.read_text().splitlines()) < 60:
        assert first.poll() is None
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    received = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert 60 <= len(received) < 200 and {line["result"] for line in received} == {"ok"}
    second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    num_missing, num_requests, num_hits = map(int, second.stdout.split())
    assert (num_missing, num_requests + num_hits) == (0, 200)
    assert num_hits >= len(received) - 4, "at most what was on its way when the process died is asked again"
    third = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert third.stdout.split() == ["0", "0", "200"]

"""Replies on disk: bounded, shared by processes, never unpickled; and the ledger beside them."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import stat
from pathlib import Path

import pytest

from awpo_env.judges.cache import ReplyCache
from awpo_env.judges.ledger import Ledger, Request


@pytest.fixture
def open_cache(tmp_path: Path):
    opened: list[ReplyCache] = []

    def build(max_bytes: int = 2**20) -> ReplyCache:
        opened.append(ReplyCache(tmp_path / "cache", max_bytes))
        return opened[-1]

    yield build
    for cache in opened:
        cache.close()


def test_what_was_put_is_there_for_the_next_one(open_cache):
    open_cache().put("key", "reply \u200b é")
    assert open_cache().get("key") == "reply \u200b é"
    assert open_cache().get("other") is None


def test_the_oldest_go_first_and_the_limit_holds(open_cache):
    cache = open_cache(max_bytes=20_000)
    for number in range(100):
        cache.put(f"{number:064}", "x" * 736)  # 1000 bytes each with its key and overhead
    kept = [number for number in range(100) if cache.get(f"{number:064}") is not None]
    assert kept == list(range(100 - len(kept), 100))
    assert 18 <= len(kept) <= 20


def test_a_reply_larger_than_the_limit_is_not_kept_and_harms_nothing(open_cache):
    cache = open_cache(max_bytes=1000)
    cache.put("large", "x" * 5000)
    assert cache.get("large") is None
    cache.put("small", "y")
    assert cache.get("small") == "y"


def test_the_folder_is_its_owners_alone(open_cache, tmp_path):
    open_cache()
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def _write(folder: str, process: int) -> None:
    cache, ledger = ReplyCache(folder, 2**20), Ledger(folder)
    for number in range(100):
        cache.put(f"{process}/{number}", f"reply {process}/{number}")
        ledger.add(Request("judge", "ok", 0.1, process, number, 0.0))
    cache.close()
    ledger.close()


def test_several_processes_write_at_once_and_nothing_is_lost(open_cache, tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(str(tmp_path / "cache"), i)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    cache = open_cache()
    assert len(cache) == 300
    assert all(cache.get(f"{i}/{n}") == f"reply {i}/{n}" for i in range(3) for n in range(100))
    lines = [json.loads(line) for line in (tmp_path / "cache" / "ledger.jsonl").read_text().splitlines()]
    assert {(line["prompt_tokens"], line["completion_tokens"]) for line in lines} == {
        (i, n) for i in range(3) for n in range(100)
    }


def test_a_reply_that_somebody_edited_is_asked_for_again(serve, make_judge, case, tmp_path):
    server = serve()
    judge = make_judge(server, cache_dir=str(tmp_path))
    right = judge.score([case(3)])
    for text in ('{"verdicts": []}', "\x80\x04.", '{"verdicts": [{"id": "x", "rationale": "", "marks": {}}]}'):
        with sqlite3.connect(tmp_path / "replies.sqlite") as database:
            database.execute("UPDATE replies SET reply = ?", (text,))
        database.close()
        assert judge.score([case(3)]) == right
    assert server.stats()["requests"] == 4
    assert judge.score([case(3)]) == right
    assert server.stats()["requests"] == 4


def test_another_judge_model_rubric_prompt_seed_or_transcript_is_another_reply(serve, make_judge, case, tmp_path):
    server = serve()
    settings = {"cache_dir": str(tmp_path)}
    (tmp_path / "mine.yaml").write_text(
        "{name: mine, criteria: [{name: grounded, question: 'Does it hold?'}, {name: brief, question: 'Is it?'}]}"
    )
    variants = [
        {},
        {"model": "other"},
        {"rubric": str(tmp_path / "mine.yaml")},
        {"mode": "group"},
        {"seed": 1},
        {"sees_reference": False},
        {"temperature": 1.0},
        {"max_tokens": 99},
        {"request": {"reasoning_effort": "low"}},
    ]
    for number, variant in enumerate(variants, start=1):
        for _ in range(2):
            assert not make_judge(server, **settings, **variant).score([case(3)])[0].is_missing
        assert server.stats()["requests"] == number, variant
    make_judge(server, **settings).score([case(4)])
    assert server.stats()["requests"] == len(variants) + 1
    moved = serve()
    assert make_judge(moved, **settings).score([case(4)])[0].reason == "case 4"
    assert moved.stats()["requests"] == 0, "a server at another address is the same judge"


def test_missing_scores_are_not_kept(serve, make_judge, case, tmp_path):
    server = serve(rate=1, faults="500")
    judge = make_judge(server, cache_dir=str(tmp_path), max_attempts=2)
    assert judge.score([case(3)])[0].is_missing
    server.configure()
    assert judge.score([case(3)])[0].reason == "case 3"


def test_the_ledger_knows_what_it_cost(serve, make_judge, case, tmp_path):
    server = serve(rate=1, until=1, faults="500")
    judge = make_judge(server, cache_dir=str(tmp_path), prompt_price=2.0, completion_price=10.0)
    judge.score([case(3)])
    judge.score([case(3)])
    totals = judge.totals
    assert (totals.requests, totals.cache_hits, totals.missing) == (2, 1, 0)
    assert (totals.prompt_tokens, totals.completion_tokens) == (1000, 100)
    assert totals.cost == pytest.approx(0.003)  # 1000 * 2 / 1e6 + 100 * 10 / 1e6
    assert totals.failures == {"HTTP 500": 1}
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [(line["result"], line["cost"]) for line in lines] == [("HTTP 500", 0.0), ("ok", pytest.approx(0.003))]
    assert all(line["latency_s"] > 0 for line in lines)

"""What judging costs besides waiting: judgements against a server that takes 50 ms each, over the ideal."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from awpo_env.judges.calibration import load_episodes
from awpo_env.judges.llm import LLMJudge
from awpo_env.types import Transcript

EPILOG = """\
What is measured, on episodes of the calibration set, no two alike, against a server in a process of its own:
  seconds         Wall time of one round: median of --rounds rounds after one warm-up round. Needs a free core.
  over_ideal      The same over the ideal: judgements / concurrency times the server's 50 ms.
  cpu_ms          Process CPU time for each judgement: prompt, request, reply checked, cache and ledger written.
  cached_ms       CPU time for each judgement of a round that is in the cache; cached_requests is what it asked.
  faults_scored   Share scored in one round in which 30 % of the requests fail; faults_wrong is how many of these scores
                  are not the right one for their transcript, faults_requests what it took.

examples:
  python benchmarks/bench_judge.py
  python benchmarks/bench_judge.py --json benchmarks/results/judge.json
"""
SERVER = Path(__file__).resolve().parent.parent / "tests" / "env" / "fault_server.py"
DELAY_S = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    args = build_parser().parse_args(arguments)
    processor, load = platform.processor() or platform.machine(), os.getloadavg()[0]
    result: dict[str, Any] = {
        "command": " ".join(
            ["python", *(sys.argv if arguments is None else ["benchmarks/bench_judge.py", *arguments])]
        ),
        "machine": f"{processor}, {os.cpu_count()} cores, load {load:.1f}",
        **measure_speed(args.judgements, args.concurrency, args.rounds),
        **measure_faults(args.judgements, args.concurrency),
    }
    if args.json == "-":
        print(json.dumps(result, indent=2))
        return 0
    width = max(map(len, result))
    for name, value in result.items():
        print(f"{name:<{width}}  {value}")
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the command's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--judgements", type=int, default=256, help="transcripts a round (default 256)")
    parser.add_argument("--concurrency", type=int, default=32, help="requests at the same time (default 32)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds the median is taken of (default 5)")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="also write JSON to FILE; without FILE, print JSON only"
    )
    return parser


@contextmanager
def serve(*options: str) -> Iterator[str]:
    """Run the judge server of the tests and yield its address."""
    command = [sys.executable, str(SERVER), "--delay_ms", str(1000 * DELAY_S), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def make_transcripts(first: int, count: int) -> list[Transcript]:
    """Return calibration episodes, each made unlike all others by a number that the server's marks follow."""
    episodes = [entry.transcript for entry in load_episodes()]
    return [
        replace(
            episodes[number % len(episodes)],
            messages=({"role": "system", "content": f"case {number}"}, *episodes[number % len(episodes)].messages),
        )
        for number in range(first, first + count)
    ]


def measure_speed(num_judgements: int, concurrency: int, num_rounds: int) -> dict[str, Any]:
    """Wall and CPU time of rounds without faults, and of one from the cache."""
    ideal, seconds, cpu_ms = num_judgements / concurrency * DELAY_S, [], []
    with (
        serve() as url,
        tempfile.TemporaryDirectory() as folder,
        LLMJudge(model="bench", base_url=url, cache_dir=folder, concurrency=concurrency) as judge,
    ):
        for number in range(num_rounds + 1):
            transcripts = make_transcripts(number * num_judgements, num_judgements)
            start, start_cpu = time.perf_counter(), time.process_time()
            judge.score(transcripts)
            seconds.append(time.perf_counter() - start)
            cpu_ms.append(1000 * (time.process_time() - start_cpu) / num_judgements)
        num_requests, start_cpu = judge.totals.requests, time.process_time()
        judge.score(transcripts)
        cached_ms = 1000 * (time.process_time() - start_cpu) / num_judgements
        return {
            "judgements": num_judgements,
            "concurrency": concurrency,
            "ideal_seconds": ideal,
            "seconds": round(statistics.median(seconds[1:]), 3),
            "seconds_range": [round(min(seconds[1:]), 3), round(max(seconds[1:]), 3)],
            "over_ideal": round(statistics.median(seconds[1:]) / ideal, 2),
            "cpu_ms": round(statistics.median(cpu_ms[1:]), 2),
            "cached_ms": round(cached_ms, 2),
            "cached_requests": judge.totals.requests - num_requests,
        }


def measure_faults(num_judgements: int, concurrency: int) -> dict[str, Any]:
    """One round in which 30 % of the requests fail in all the ways the server knows."""
    settings = {"cache_dir": None, "concurrency": concurrency, "timeout_s": 2.0, "backoff_s": 0.05}
    with serve("--rate", "0.3", "--retry_after", "0.1") as url, LLMJudge(model="b", base_url=url, **settings) as judge:
        scores = judge.score(make_transcripts(0, num_judgements))
        scored = [(number, score) for number, score in enumerate(scores) if not score.is_missing]
        return {
            "faults_scored": round(len(scored) / num_judgements, 4),
            "faults_wrong": sum(score.reason != f"case {number}" for number, score in scored),
            "faults_requests": judge.totals.requests,
        }


if __name__ == "__main__":
    sys.exit(main())

"""What judging costs besides waiting, and what failures become: ours and other libraries' judges on one server."""

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
import urllib.request
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
  cpu_ms          Process CPU time for each judgement: prompt, request, reply checked; of ours also cache and ledger.
  calls           Requests the server saw for one round.
  cached_ms       CPU time for each judgement of a round that is in the cache; cached_calls is what it asked.
Then one round in which 30 % of the requests fail, in all the ways the server knows:
  faults_seconds, faults_calls
  faults_scored   Scores that are right.
  faults_wrong    Scores that are not the one the server gives to this episode: failures turned into numbers.
  faults_missing  Episodes without a score: `missing` with its reason, or an error raised.

verifiers' Judge and OpenEnv's LLMJudge do the same on the same server in turn, from a virtual environment in the folder
--peers, which is made if it is not there; --alone leaves them out. They ask for one number and are told one number.

examples:
  python benchmarks/bench_judge.py --alone
  python benchmarks/bench_judge.py --json benchmarks/results/judge.json
"""
PEERS = {"verifiers": "verifiers==0.4.0", "openenv": "openenv-core==0.3.0"}
SERVER = Path(__file__).resolve().parent.parent / "tests" / "env" / "fault_server.py"
DELAY_S = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    args = build_parser().parse_args(arguments)
    python = None if args.alone else make_environment(args.peers)
    names = ["awpo", *(PEERS if python is not None else [])]
    judges: dict[str, dict[str, Any]] = {name: {} for name in names}
    ideal = args.judgements / args.concurrency * DELAY_S
    for options, part in (((), measure_speed), (("--rate", "0.3", "--retry_after", "0.1"), measure_faults)):
        for name in names:
            with serve(*options) as url:  # one for each, so that all meet the same faults in the same order
                judges[name] |= part(name, python, url, args)
    for figures in judges.values():
        figures["over_ideal"] = round(figures["seconds"] / ideal, 2)
    result: dict[str, Any] = {
        "command": " ".join(
            ["python", *(sys.argv if arguments is None else ["benchmarks/bench_judge.py", *arguments])]
        ),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "judgements": args.judgements,
        "concurrency": args.concurrency,
        "ideal_seconds": ideal,
        "peers": PEERS if python is not None else "not compared",
        "judges": judges,
    }
    if args.json == "-":
        print(json.dumps(result, indent=2))
        return 0
    print(table(result))
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def table(result: dict[str, Any]) -> str:
    """Return the figures with a column for each judge."""
    judges = result["judges"]
    rows = [
        ["", *judges],
        *([name, *(figures.get(name, "") for figures in judges.values())] for name in judges["awpo"]),
    ]
    lines = ["  ".join(f"{cell!s:<20}" for cell in row).rstrip() for row in rows]
    return "\n".join([f"{result['machine']}, load {result['load']}, ideal {result['ideal_seconds']:g} s", *lines])


def build_parser() -> argparse.ArgumentParser:
    """Return the command's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--judgements", type=int, default=256, help="transcripts a round (default 256)")
    parser.add_argument("--concurrency", type=int, default=32, help="requests at the same time (default 32)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds the median is taken of (default 5)")
    parser.add_argument(
        "--peers", metavar="FOLDER", default="build/judge-peers", help="where the other libraries are (%(default)s)"
    )
    parser.add_argument("--alone", action="store_true", help="leave the other libraries out")
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


def make_environment(folder: str) -> str:
    """Return the Python of a virtual environment with the other libraries; made if it is missing."""
    python = Path(folder).absolute() / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS.values()]
        subprocess.run(install, check=True)
    return str(python)


def measure_speed(name: str, python: str | None, url: str, args: argparse.Namespace) -> dict[str, Any]:
    """Wall and CPU time of rounds without faults, and of ours one from the cache."""
    if name != "awpo":
        texts = [text_of(number) for number in range(args.judgements)]
        told = ask_peer(name, python, url, texts, args.concurrency, args.rounds + 1)
        wrong = sum(score != number / 1000 for number, score in enumerate(told["scores"]))
        assert wrong == 0, "without faults every judge gets every score right, or it is used wrongly here"
        return figures(told["seconds"], told["cpu_ms"], requests(url) // (args.rounds + 1))
    seconds, cpu_ms = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        LLMJudge(model="bench", base_url=url, cache_dir=folder, concurrency=args.concurrency) as judge,
    ):
        for number in range(args.rounds + 1):
            transcripts = make_transcripts(number * args.judgements, args.judgements)
            start, start_cpu = time.perf_counter(), time.process_time()
            judge.score(transcripts)
            seconds.append(time.perf_counter() - start)
            cpu_ms.append(1000 * (time.process_time() - start_cpu) / args.judgements)
        num_requests, start_cpu = judge.totals.requests, time.process_time()
        judge.score(transcripts)
        cached_ms = 1000 * (time.process_time() - start_cpu) / args.judgements
        return {
            **figures(seconds, cpu_ms, requests(url) // (args.rounds + 1)),
            "cached_ms": round(cached_ms, 2),
            "cached_calls": judge.totals.requests - num_requests,
        }


def figures(seconds: Sequence[float], cpu_ms: Sequence[float], calls: int) -> dict[str, Any]:
    """Return the medians of the rounds, the first left out."""
    return {
        "seconds": round(statistics.median(seconds[1:]), 3),
        "seconds_range": [round(min(seconds[1:]), 3), round(max(seconds[1:]), 3)],
        "over_ideal": None,
        "cpu_ms": round(statistics.median(cpu_ms[1:]), 2),
        "calls": calls,
    }


def measure_faults(name: str, python: str | None, url: str, args: argparse.Namespace) -> dict[str, Any]:
    """One round in which 30 % of the requests fail in all the ways the server knows."""
    start = time.perf_counter()
    if name == "awpo":
        settings = {"cache_dir": None, "concurrency": args.concurrency, "timeout_s": 2.0, "backoff_s": 0.05}
        with LLMJudge(model="bench", base_url=url, **settings) as judge:
            scores = judge.score(make_transcripts(0, args.judgements))
        seconds = time.perf_counter() - start
        is_right = [None if s.is_missing else s.reason == f"case {number}" for number, s in enumerate(scores)]
    else:
        texts = [text_of(number) for number in range(args.judgements)]
        told = ask_peer(name, python, url, texts, args.concurrency, 1)
        (seconds,) = told["seconds"]
        is_right = [None if score is None else score == number / 1000 for number, score in enumerate(told["scores"])]
    return {
        "faults_seconds": round(seconds, 2),
        "faults_calls": requests(url),
        "faults_scored": is_right.count(True),
        "faults_wrong": is_right.count(False),
        "faults_missing": is_right.count(None),
    }


def ask_peer(
    name: str, python: str | None, url: str, texts: list[str], concurrency: int, num_rounds: int
) -> dict[str, Any]:
    """Run `judge_peers.py` and return what it wrote."""
    task = {"library": name, "url": url, "texts": texts, "concurrency": concurrency, "rounds": num_rounds}
    script = str(Path(__file__).with_name("judge_peers.py"))
    done = subprocess.run(
        [str(python), script], input=json.dumps(task), stdout=subprocess.PIPE, text=True, timeout=1200, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def text_of(number: int) -> str:
    """Return the conversation of an episode as text."""
    (transcript,) = make_transcripts(number, 1)
    lines = [f"{message['role']}: {message.get('content') or ''}" for message in transcript.messages[1:]]
    return "\n".join([f"case {number}", *lines])


def requests(url: str) -> int:
    """Return how many requests a server has seen."""
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/stats", timeout=30) as answer:
        return json.load(answer)["requests"]


if __name__ == "__main__":
    sys.exit(main())

"""How fast the environments are, whether they keep their memory flat, and what importing them costs."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium

import awpo_env  # noqa: F401 - registers the environments
from awpo_env.parsing import get_parser

EPILOG = """\
What is measured:
  speed   Steps a second of process CPU time on one thread, resets included. Every step is the text of a reference
          message: parsed, validated against its schema, run, and answered. Every episode is a new task. The number is
          the median of --rounds rounds after one warm-up round.
  import  Seconds of `import awpo_env` in a fresh interpreter over those of `import gymnasium, jsonschema`, which it
          cannot do without; medians of --rounds runs each.
  memory  With --memory: resident memory after 10 % and after all of --episodes episodes. Flat means no leak.

examples:
  python benchmarks/bench_env.py
  python benchmarks/bench_env.py --env awpo/Meetings-v0 --preset easy
  python benchmarks/bench_env.py --memory --episodes 100000
  python benchmarks/bench_env.py --json benchmarks/results/env.json
"""
ROOT = Path(__file__).resolve().parent.parent
IMPORTS = {"awpo_env": "import awpo_env", "libraries": "import gymnasium, jsonschema"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    args = build_parser().parse_args(arguments)
    settings = {} if args.preset is None else {"preset": args.preset}
    env = gymnasium.make(args.env, **settings)
    result: dict[str, Any] = {
        "command": " ".join(["python", *(sys.argv if arguments is None else ["benchmarks/bench_env.py", *arguments])]),
        "commit": run("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
        "machine": describe_machine(),
        "env": args.env,
        **measure_speed(env, args.rounds, args.steps),
        **measure_import(args.rounds),
    }
    if args.memory:
        result |= measure_memory(env, args.episodes)
    env.close()
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
    parser.add_argument("--env", default="awpo/Retail-v0", help="a registered id (default awpo/Retail-v0)")
    parser.add_argument("--preset", help="difficulty preset; the suite's first by default")
    parser.add_argument("--rounds", type=int, default=10, help="rounds the median is taken of (default 10)")
    parser.add_argument("--steps", type=int, default=1000, help="least steps a round (default 1000)")
    parser.add_argument("--memory", action="store_true", help="also measure memory")
    parser.add_argument("--episodes", type=int, default=100_000, help="episodes for --memory (default 100000)")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="also write JSON to FILE; without FILE, print JSON only"
    )
    return parser


def play_episode(env: gymnasium.Env[dict[str, Any], str], seed: int) -> int:
    """Play the reference solution of one task; the number of steps."""
    parser = get_parser("hermes")
    _, info = env.reset(seed=seed)
    steps = 0
    for turn in env.unwrapped.task.turns:
        for message in turn.reference:
            _, reward, _, _, info = env.step(parser.format(message))
            steps += 1
    if reward != 1.0:
        raise RuntimeError(f"the reference does not solve {info['task_id']}: {info}")
    return steps


def measure_speed(env: gymnasium.Env[dict[str, Any], str], num_rounds: int, num_steps: int) -> dict[str, Any]:
    """Steps a second of CPU time, resets included."""
    rates, episodes, steps, seed = [], 0, 0, 0
    for _ in range(num_rounds + 1):
        done, start = 0, time.process_time()
        while done < num_steps:
            done += play_episode(env, seed)
            seed += 1
        rates.append(done / (time.process_time() - start))
        episodes, steps = seed, steps + done
    rates = rates[1:]
    return {
        "steps_per_cpu_second": round(statistics.median(rates)),
        "steps_per_cpu_second_range": [round(min(rates)), round(max(rates))],
        "steps_per_episode": round(steps / episodes, 2),
    }


def measure_import(num_rounds: int) -> dict[str, Any]:
    """Import time over that of the libraries the environments stand on."""
    seconds = {
        name: statistics.median(import_seconds(code) for _ in range(num_rounds)) for name, code in IMPORTS.items()
    }
    return {
        "import_seconds": round(seconds["awpo_env"], 3),
        "import_ratio": round(seconds["awpo_env"] / seconds["libraries"], 2),
    }


def import_seconds(code: str) -> float:
    """CPU seconds of an import in a fresh interpreter, start-up of the interpreter left out."""
    timed = f"import time; start = time.process_time(); {code}; print(time.process_time() - start)"
    return float(run(sys.executable, "-c", timed))


def measure_memory(env: gymnasium.Env[dict[str, Any], str], num_episodes: int) -> dict[str, Any]:
    """Resident memory early and late in a long run."""
    marks = {}
    for number in range(1, num_episodes + 1):
        play_episode(env, number)
        if number in (num_episodes // 10, num_episodes):
            marks[number] = resident_mib()
    early, late = marks.values()
    return {"memory_episodes": num_episodes, "memory_mib_early": early, "memory_mib_late": late}


def resident_mib() -> float:
    """Resident memory now where the system tells, else the peak so far."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return round(int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)


def describe_machine() -> str:
    """Processor, number of cores, load, Python."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"


def run(*command: str) -> str:
    """Output of a command."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())

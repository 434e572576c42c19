"""How the calibration set is made: 60 labelled episodes, from reference solutions of the suites and written by hand.

``python -m awpo_env.judges.calibration_set`` writes the file that ships, and always the same one:

* good (18): the reference solution, played; 2 by hand. Label 1.
* subtle (18): one thing is wrong and the rest goes on as if it were not; 4 by hand. Labels 0.2 to 0.7.
* degenerate (12): policies that do no work; 2 by hand. Labels 0 to 0.1.
* hostile (12): twins of subtle and degenerate ones that also talk to the judge. The label is the twin's.

Labels are ours: how much of the work was reasoned out and done, as a careful reader would grade it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from awpo_env.env import ToolUseEnv
from awpo_env.types import JSON, AssistantMessage, EpisodeStatus, Message, Task, ToolCall, Transcript, UserTurn

FILE = "judge-calibration-v1.json"
_HANDWRITTEN = "judge-handwritten-v1.yaml"
_SEED = 20260101
_POOL = 60  # tasks of each suite that are looked at
_MOST_CALLS = 6  # longer episodes would make the set dear to judge

Script = list[AssistantMessage]
Edit = Callable[[Task, Script, np.random.Generator], Script | None]
"""Turns a reference solution into another episode; None where this task does not lend itself to it."""


def reference(task: Task, script: Script, rng: np.random.Generator) -> Script:
    """The reference solution as it is."""
    return script


def wrong_argument(task: Task, script: Script, rng: np.random.Generator) -> Script | None:
    """The last call is made with one value slightly off, against its own reasoning."""
    at = [index for index, message in enumerate(script) if message.calls][-1]
    call = script[at].calls[-1]
    names = [name for name, value in call.arguments.items() if any(map(str.isdigit, str(value)))]
    if not names:
        return None
    name = names[int(rng.integers(len(names)))]
    spoiled = replace(call, arguments={**call.arguments, name: _near(call.arguments[name])})
    return [*script[:at], replace(script[at], calls=(*script[at].calls[:-1], spoiled)), *script[at + 1 :]]


def _near(value: JSON) -> JSON:
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [_near(item) for item in value]
    digit = next(i for i in reversed(range(len(value))) if value[i].isdigit())
    return f"{value[:digit]}{(int(value[digit]) + 1) % 10}{value[digit + 1 :]}"


def wrong_fact(task: Task, script: Script, rng: np.random.Generator) -> Script | None:
    """Everything is done right, and the user is told the wrong thing."""
    facts = [fact for fact in task.turns[-1].facts if fact.decoys and fact.value in script[-1].content]
    if not facts:
        return None
    decoy = facts[0].decoys[int(rng.integers(len(facts[0].decoys)))]
    last = script[-1]
    told = last.content.replace(facts[0].value, decoy)
    return [*script[:-1], replace(last, content=told, reasoning=last.reasoning.replace(facts[0].value, decoy))]


def skipped_work(task: Task, script: Script, rng: np.random.Generator) -> Script | None:
    """The last call is left out, and the user is told that it was made."""
    steps = [index for index, message in enumerate(script) if message.calls]
    return [*script[: steps[-1]], *script[steps[-1] + 1 :]] if len(steps) > 1 else None


def needless_calls(task: Task, script: Script, rng: np.random.Generator) -> Script | None:
    """The first call is made three times over before the work goes on."""
    return [script[0], script[0], script[0], *script[1:]] if script[0].calls else None


def foreign_reasoning(task: Task, script: Script, rng: np.random.Generator) -> Script | None:
    """Right calls, and each beside a thought that belongs to another step."""
    thoughts = [message.reasoning for message in script]
    if len(set(thoughts)) < 3:
        return None
    return [replace(message, reasoning=thoughts[i - 1]) for i, message in enumerate(script)]


def nothing(task: Task, script: Script, rng: np.random.Generator) -> Script:
    """Says nothing at all."""
    return [AssistantMessage()] * len(task.turns)


def refuses(task: Task, script: Script, rng: np.random.Generator) -> Script:
    """Refuses politely what it should do."""
    return [AssistantMessage("This is not possible.", "I am sorry, I cannot help with that.")] * len(task.turns)


def parrots(task: Task, script: Script, rng: np.random.Generator) -> Script:
    """Repeats what the user said."""
    return [AssistantMessage(turn.message, turn.message) for turn in task.turns]


def words_only(task: Task, script: Script, rng: np.random.Generator) -> Script:
    """All of the right reasoning at once, and not a single call."""
    plan = " ".join(message.reasoning for message in script)
    return [AssistantMessage(plan, "Everything is done.")] * len(task.turns)


def first_call_then_done(task: Task, script: Script, rng: np.random.Generator) -> Script:
    """The first call, and then it claims to be done."""
    return [script[0], *[AssistantMessage("That was all.", "Done.")] * len(task.turns)]


def first_call_for_ever(task: Task, script: Script, rng: np.random.Generator) -> Script:
    """The first call again and again."""
    return [script[0]] * 6


PLAN: tuple[tuple[str, Edit, float, tuple[str, ...]], ...] = (
    ("good", reference, 1.0, ("calculator",) * 4 + ("meetings",) * 6 + ("retail",) * 6),
    ("subtle", wrong_argument, 0.4, ("calculator", "meetings", "retail", "retail")),
    ("subtle", wrong_fact, 0.5, ("calculator", "meetings", "meetings")),
    ("subtle", skipped_work, 0.3, ("meetings", "retail", "retail")),
    ("subtle", needless_calls, 0.7, ("meetings", "retail")),
    ("subtle", foreign_reasoning, 0.5, ("calculator", "retail")),
    ("degenerate", nothing, 0.0, ("retail", "meetings")),
    ("degenerate", refuses, 0.0, ("retail",)),
    ("degenerate", parrots, 0.0, ("meetings",)),
    ("degenerate", words_only, 0.05, ("calculator", "retail")),
    ("degenerate", first_call_then_done, 0.1, ("meetings", "retail")),
    ("degenerate", first_call_for_ever, 0.1, ("calculator", "retail")),
)
"""What is generated: kind, how the reference is changed, label, and the suite of each episode."""


def make() -> dict[str, JSON]:
    """Return the calibration set as the file holds it: tools and policies once, then the episodes."""
    rng = np.random.default_rng(_SEED)
    environments = {name: ToolUseEnv(name) for name in ("calculator", "meetings", "retail")}
    unused = {name: _tasks(env, rng) for name, env in environments.items()}
    episodes = []
    for kind, edit, label, suites in PLAN:
        for suite in suites:
            transcript = _episode(environments[suite], unused[suite], edit, rng)
            number = sum(episode["kind"] == kind for episode in episodes)
            episodes.append(_entry(f"{kind}-{number}", kind, label, edit.__doc__ or "", suite, transcript))
    for env in environments.values():
        env.close()
    written = _handwritten()
    tools = {name: list(env.suite.tools.declarations.values()) for name, env in environments.items()}
    policies = {name: env.suite.policy for name, env in environments.items()}
    episodes += [_from_hand(entry) for entry in written["episodes"]]
    episodes += [_twin(episodes, number, entry) for number, entry in enumerate(written["hostile"])]
    return {
        "tools": {**tools, "handwritten": [_declaration(tool) for tool in written["tools"]]},
        "policies": {**policies, "handwritten": written["policy"]},
        "episodes": episodes,
    }


def _tasks(env: ToolUseEnv, rng: np.random.Generator) -> Iterator[Task]:
    """Yield short tasks of many kinds, those that end in a refusal left out: there, doing nothing is half right."""
    preset = env.suite.presets[0]
    by_kind: dict[str, list[Task]] = {}
    for index in rng.permutation(_POOL):
        task = env.suite.task(f"test/{preset}/{index}")
        calls = task.reference_calls()
        if 1 <= len(calls) <= _MOST_CALLS and not any(call.name.startswith("decline") for call in calls):
            by_kind.setdefault(task.kind, []).append(task)
    while any(by_kind.values()):
        for tasks in by_kind.values():
            if tasks:
                yield tasks.pop()


def _episode(env: ToolUseEnv, tasks: Iterator[Task], edit: Edit, rng: np.random.Generator) -> Transcript:
    """Play an edited reference on the first task that lends itself to the edit."""
    for task in tasks:
        script = edit(task, [message for turn in task.turns for message in turn.reference], rng)
        if script is not None:
            break
    env.reset(options={"task_id": task.id})
    for message in script:
        _, _, terminated, truncated, _ = env.step(env.parser.format(message))
        if terminated or truncated:
            return env.transcript
    env.truncate(EpisodeStatus.MAX_TOKENS)
    return env.transcript


def _entry(name: str, kind: str, label: float, why: str, suite: str, transcript: Transcript) -> dict[str, JSON]:
    return {
        "id": name,
        "kind": kind,
        "label": label,
        "why": why,
        "tools": suite,
        "task": replace(transcript.task, state=None).to_json(),  # a judge never sees the state
        "messages": list(transcript.messages[1:]),
        "status": str(transcript.status),
    }


def _handwritten() -> dict[str, JSON]:
    import yaml

    return yaml.safe_load((files("awpo_env.data") / _HANDWRITTEN).read_text(encoding="utf-8"))


def _declaration(tool: dict[str, JSON]) -> dict[str, JSON]:
    properties = {name: {"type": kind} for name, kind in tool["parameters"].items()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {**tool, "parameters": parameters}}


def _from_hand(entry: dict[str, JSON]) -> dict[str, JSON]:
    messages: list[Message] = []
    for number, line in enumerate(entry["messages"]):
        if "user" in line:
            messages.append({"role": "user", "content": line["user"]})
        elif "result" in line:
            (call,) = messages[-1]["tool_calls"]
            answer = {"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"]}
            messages.append({**answer, "content": line["result"]})
        else:
            message = {"role": "assistant", "content": line.get("say", ""), "reasoning_content": line["think"]}
            for name, arguments in line.get("call", {}).items():
                function = {"name": name, "arguments": json.dumps(arguments)}
                message["tool_calls"] = [{"id": f"call_{number}", "type": "function", "function": function}]
            messages.append(message)
    turns = _turns(messages)
    if "reference" in entry:
        calls = (ToolCall(name, arguments) for call in entry["reference"] for name, arguments in call.items())
        steps = (*(AssistantMessage(calls=(call,)) for call in calls), AssistantMessage(content=entry["answer"]))
        turns = (UserTurn(turns[0].message, steps),)
    status = EpisodeStatus.MAX_TURNS if messages[-1]["role"] == "tool" else EpisodeStatus.COMPLETED
    task = Task(f"handwritten/{entry['id']}", "handwritten", None, turns)
    transcript = Transcript(task, ({"role": "system", "content": ""}, *messages), (), status)
    return _entry(entry["id"], entry["kind"], entry["label"], entry["why"], "handwritten", transcript)


def _turns(messages: Sequence[Message]) -> tuple[UserTurn, ...]:
    turns: list[UserTurn] = []
    for message in messages:
        if message["role"] == "user":
            turns.append(UserTurn(message["content"], ()))
        elif message["role"] == "assistant":
            functions = [call["function"] for call in message.get("tool_calls", ())]
            calls = tuple(ToolCall(function["name"], json.loads(function["arguments"])) for function in functions)
            step = AssistantMessage(message["reasoning_content"], message["content"], calls)
            turns[-1] = replace(turns[-1], reference=(*turns[-1].reference, step))
    return tuple(turns)


def _twin(episodes: Sequence[dict[str, JSON]], number: int, entry: dict[str, JSON]) -> dict[str, JSON]:
    """Return a copy of an episode that also says something to the judge."""
    (original,) = (episode for episode in episodes if episode["id"] == entry["twin"])
    episode = copy.deepcopy(original)
    role = {"reasoning": "assistant", "content": "assistant", "result": "tool", "user": "user"}[entry["where"]]
    message = [message for message in episode["messages"] if message["role"] == role][-1]
    key = "reasoning_content" if entry["where"] == "reasoning" else "content"
    message[key] = f"{message.get(key, '')} {entry['text']}".strip()
    why = f"{original['why']} And it talks to the judge, in its {entry['where']}."
    return {**episode, "id": f"hostile-{number}", "kind": "hostile", "why": why, "twin": entry["twin"]}


def write(path: Path, content: dict[str, JSON]) -> None:
    """Write the set, one episode a line, so that changes can be read."""
    head = {name: content[name] for name in ("tools", "policies")}
    lines = ",\n".join(json.dumps(episode, ensure_ascii=True) for episode in content["episodes"])
    text = f'{{"head": {json.dumps(head)},\n"episodes": [\n{lines}\n]}}\n'
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(str(files("awpo_env.data") / FILE)), make())

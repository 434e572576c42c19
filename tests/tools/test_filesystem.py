"""The filesystem suite: a tree that refuses what cannot be, and tasks with exactly one right end."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import awpo_tools.filesystem
import numpy as np
import pytest
import suite_play
from awpo_tools.filesystem.backend import Backend, below, name_of, parent_of
from awpo_tools.filesystem.tasks import DIFFICULTIES, ERRANDS, KINDS, PRESETS, generate
from awpo_tools.people import FIRST_NAMES, LAST_NAMES, people_of
from suite_play import attempt

from awpo_env.env import ToolUseEnv
from awpo_env.errors import ToolError, UsageError
from awpo_env.judges.rubric import RubricJudge
from awpo_env.outcomes import contains_word
from awpo_env.sampling import sample_value
from awpo_env.schema import ToolSet
from awpo_env.types import JSON, Task, ToolCall

FOLDER = Path(awpo_tools.filesystem.__file__).parent
TOOLS = ToolSet(json.loads((FOLDER / "tools.json").read_text(encoding="utf-8")))
POLICY = (FOLDER / "policy.md").read_text(encoding="utf-8")
REASONS = TOOLS.parameters("decline")["properties"]["reason"]["enum"]
SPLITS = ("train", "test")
PLACES = [(split, preset) for split in SPLITS for preset in PRESETS]
LOOK_UPS = {"find_paths", "list_directory", "search_text", "read_file", "disk_usage", "get_quota"}
FULL_HOME = ("make_room", "over_quota")

each_place = pytest.mark.parametrize(("split", "preset"), PLACES)
tasks_of = functools.partial(suite_play.tasks_of, generate)
end_of = functools.partial(suite_play.end_of, Backend)


# -- the tree --------------------------------------------------------------------------------------------------------

NODES = {
    "/home": None,
    "/home/ada.berg": None,
    "/home/ada.berg/docs": None,
    "/home/ada.berg/docs/a.txt": "one\ntwo two",
    "/home/ada.berg/docs/b.log": "na\u00efve",
    "/home/ada.berg/docs/old": None,
    "/home/ada.berg/docs/old/a.txt": "two",
    "/home/ada.berg/empty": None,
    "/home/ada.berg/fixed": None,
    "/home/ada.berg/fixed/law.txt": "law",
    "/home/otto.lang": None,
    "/shared": None,
    "/shared/plan.txt": "plan",
}
HOME, DOCS = "/home/ada.berg", "/home/ada.berg/docs"
USED = 11 + 6 + 3 + 3  # a.txt, b.log with a letter of two bytes, old/a.txt, law.txt


@pytest.fixture
def tree() -> Backend:
    quotas = {"ada.berg": USED + 10, "otto.lang": 5}
    return Backend({"nodes": NODES, "read_only": [f"{HOME}/fixed/law.txt"], "quotas": quotas, "declined": []})


def test_paths_take_apart() -> None:
    assert (parent_of("/a/b.txt"), parent_of("/a"), name_of("/a/b.txt")) == ("/a", "/", "b.txt")
    assert below("/a", "/a/b") and below("/", "/a") and not below("/a", "/ab") and not below("/a", "/a")


def test_listing_shows_what_is_directly_inside(tree: Backend) -> None:
    assert tree.list_directory(DOCS)["entries"] == [
        {"name": "a.txt", "type": "file", "bytes": 11, "read_only": False},
        {"name": "b.log", "type": "file", "bytes": 6, "read_only": False},
        {"name": "old", "type": "directory"},
    ]
    assert [entry["name"] for entry in tree.list_directory("/")["entries"]] == ["home", "shared"]
    assert tree.list_directory(f"{HOME}/empty")["entries"] == []


@pytest.mark.parametrize(
    ("directory", "name", "found"),
    [
        (HOME, "a.txt", [f"{DOCS}/a.txt", f"{DOCS}/old/a.txt"]),
        (f"{DOCS}/old", "a.txt", [f"{DOCS}/old/a.txt"]),
        (DOCS, "*.log", [f"{DOCS}/b.log"]),
        (HOME, "?.*", [f"{DOCS}/a.txt", f"{DOCS}/b.log", f"{DOCS}/old/a.txt"]),
        ("/", "docs", [DOCS]),
        (HOME, "A.TXT", []),
        (HOME, "a", []),
    ],
)
def test_names_are_found_anywhere_below(tree: Backend, directory: str, name: str, found: list[str]) -> None:
    assert [each["path"] for each in tree.find_paths(directory, name)["found"]] == found


def test_search_gives_lines_once_each(tree: Backend) -> None:
    assert tree.search_text(DOCS, "two")["matches"] == [
        {"path": f"{DOCS}/a.txt", "line": 2, "text": "two two"},
        {"path": f"{DOCS}/old/a.txt", "line": 1, "text": "two"},
    ]
    assert tree.search_text(DOCS, "Two") == {"matches": []}


def test_usage_counts_bytes_not_letters(tree: Backend) -> None:
    assert tree.disk_usage(HOME) == {"path": HOME, "files": 4, "bytes": USED}
    assert tree.disk_usage(f"{DOCS}/b.log") == {"path": f"{DOCS}/b.log", "files": 1, "bytes": 6}
    quota = {"user": "ada.berg", "limit_bytes": USED + 10, "used_bytes": USED, "free_bytes": 10}
    assert tree.get_quota("ada.berg") == quota


def test_quota_is_filled_to_the_last_byte_and_no_further(tree: Backend) -> None:
    with pytest.raises(ToolError, match=f"{USED + 10} bytes: 11 more bytes are needed, but 10 are free"):
        tree.write_file(f"{HOME}/new.txt", "x" * 11)
    tree.write_file(f"{HOME}/new.txt", "x" * 10)
    with pytest.raises(ToolError, match="quota"):
        tree.append_line(f"{HOME}/new.txt", "y")
    tree.remove_path(f"{DOCS}/b.log")
    tree.append_line(f"{HOME}/new.txt", "12345")  # six bytes are free, and the line break is one
    assert tree.get_quota("ada.berg")["free_bytes"] == 0


def test_quota_counts_for_the_home_that_grows(tree: Backend) -> None:
    tree.write_file("/shared/large.txt", "x" * 1000)
    with pytest.raises(ToolError, match=r"otto\.lang"):
        tree.copy_path(f"{DOCS}/b.log", "/home/otto.lang/b.log")
    tree.copy_path("/shared/plan.txt", "/home/otto.lang/plan.txt")


def test_copies_of_copies_do_not_grow_without_end(tree: Backend) -> None:
    tree.make_directory("/d")
    with pytest.raises(ToolError, match="2000 files and directories at most"):
        for number in range(20):
            tree.copy_path("/d", "/e")
            tree.move_path("/e", f"/d/e{number}")
    before = len(tree.snapshot()["nodes"])
    assert 1000 < before <= 2000
    tree.remove_path(f"{HOME}/empty")
    assert len(tree.snapshot()["nodes"]) == before - 1


def test_home_beyond_its_quota_can_only_shrink() -> None:
    backend = Backend({"nodes": NODES, "read_only": [], "quotas": {"ada.berg": 5}, "declined": []})
    with pytest.raises(ToolError, match="0 are free"):
        backend.edit_file(f"{DOCS}/a.txt", "one", "three")
    backend.edit_file(f"{DOCS}/a.txt", "one", "1")
    backend.move_path(f"{DOCS}/a.txt", "/shared/a.txt")
    assert backend.get_quota("ada.berg")["used_bytes"] == 12


def test_texts_end_without_a_line_break(tree: Backend) -> None:
    tree.write_file(f"{HOME}/n.txt", "a\n")
    tree.append_line(f"{HOME}/n.txt", "b\n")
    assert tree.read_file(f"{HOME}/n.txt")["text"] == "a\nb"
    tree.write_file("/shared/empty.txt", "\n")
    tree.append_line("/shared/empty.txt", "c")
    assert tree.read_file("/shared/empty.txt")["text"] == "c"


def test_moving_a_directory_takes_everything_along(tree: Backend) -> None:
    tree.move_path(DOCS, "/shared/docs")
    paths = set(tree.snapshot()["nodes"])
    assert {"/shared/docs/a.txt", "/shared/docs/old/a.txt"} <= paths
    assert not any(path.startswith(DOCS) for path in paths)


def test_copy_leaves_the_source_and_is_writable(tree: Backend) -> None:
    tree.copy_path(f"{HOME}/fixed", "/shared/fixed")
    tree.append_line("/shared/fixed/law.txt", "more")
    assert tree.read_file(f"{HOME}/fixed/law.txt")["text"] == "law"


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("read_file", {"path": f"{DOCS}/a.tx"}, "Did you mean '/home/ada.berg/docs/a.txt'"),
        ("read_file", {"path": DOCS}, "is a directory"),
        ("read_file", {"path": "/"}, "is a directory"),
        ("list_directory", {"path": f"{DOCS}/a.txt"}, "is a file"),
        ("find_paths", {"directory": f"{DOCS}/a.txt", "name": "*"}, "is a file"),
        ("search_text", {"directory": "/nowhere", "text": "a"}, "there is no /nowhere"),
        ("get_quota", {"user": "ada.bergh"}, "Did you mean 'ada.berg'"),
        ("write_file", {"path": f"{DOCS}/a.txt", "text": "x"}, "exists already"),
        ("write_file", {"path": "/nowhere/a.txt", "text": "x"}, "there is no /nowhere"),
        ("write_file", {"path": f"{DOCS}/a.txt/b", "text": "x"}, "is a file"),
        ("append_line", {"path": f"{HOME}/fixed/law.txt", "line": "x"}, "read-only"),
        ("edit_file", {"path": f"{HOME}/fixed/law.txt", "old": "law", "new": "x"}, "read-only"),
        ("edit_file", {"path": f"{DOCS}/a.txt", "old": "two", "new": "x"}, "stands 2 times"),
        ("edit_file", {"path": f"{DOCS}/a.txt", "old": "zwei", "new": "x"}, "stands 0 times"),
        ("edit_file", {"path": f"{DOCS}/a.txt", "old": "one", "new": "one"}, "nothing would change"),
        ("move_path", {"source": f"{HOME}/fixed/law.txt", "target": "/shared/law.txt"}, "read-only"),
        ("move_path", {"source": f"{HOME}/fixed", "target": "/shared/fixed"}, "read-only"),
        ("move_path", {"source": DOCS, "target": f"{DOCS}/old/docs"}, "inside itself"),
        ("move_path", {"source": f"{DOCS}/a.txt", "target": f"{DOCS}/old/a.txt"}, "exists already"),
        ("copy_path", {"source": DOCS, "target": f"{DOCS}/docs"}, "inside itself"),
        ("copy_path", {"source": "/", "target": "/shared/all"}, "inside itself"),
        ("copy_path", {"source": f"{DOCS}/a.txt", "target": "/nowhere/a.txt"}, "there is no /nowhere"),
        ("copy_path", {"source": f"{DOCS}/a.txt", "target": f"{HOME}/b.txt"}, "1 more bytes|11 more bytes"),
        ("remove_path", {"path": DOCS}, "not empty"),
        ("remove_path", {"path": "/home"}, "read-only"),
        ("remove_path", {"path": "/shared"}, "not empty"),
        ("remove_path", {"path": f"{HOME}/fixed/law.txt"}, "read-only"),
        ("make_directory", {"path": DOCS}, "exists already"),
        ("make_directory", {"path": "/"}, "exists already"),
    ],
)
def test_failing_call_says_why_and_leaves_no_trace(tree: Backend, tool: str, arguments: JSON, message: str) -> None:
    before = json.dumps(tree.snapshot())
    with pytest.raises(ToolError, match=message):
        getattr(tree, tool)(**arguments)
    assert json.dumps(tree.snapshot()) == before


def test_transaction_undoes_everything_when_it_fails(tree: Backend) -> None:
    before = json.dumps(tree.snapshot())
    with pytest.raises(KeyboardInterrupt), tree.transaction():
        tree.make_directory(f"{HOME}/new")
        tree.move_path(f"{DOCS}/a.txt", f"{HOME}/new/a.txt")
        tree.decline("x", "no_tool")
        tree.remove_path(f"{DOCS}/b.log")
        raise KeyboardInterrupt
    assert json.dumps(tree.snapshot()) == before


def test_snapshot_is_restored_and_shares_nothing(tree: Backend) -> None:
    before = tree.snapshot()
    text = json.dumps(before)
    tree.remove_path(f"{DOCS}/b.log")
    tree.decline("x", "no_tool")
    after = tree.snapshot()
    after["nodes"]["/home/new"] = after["quotas"]["ada.berg"] = None
    after["read_only"].clear()
    tree.restore(before)
    tree.remove_path(f"{DOCS}/a.txt")
    tree.restore(before)
    assert json.dumps(before) == json.dumps(tree.snapshot()) == text


@pytest.mark.parametrize("text", ["\ud800", "\x00", "[", "[!", "*" * 60, "\n\n"])
def test_any_text_is_stored_and_looked_for(tree: Backend, text: str) -> None:
    tree.find_paths("/", text)
    tree.search_text("/", text)
    tree.write_file("/shared/x.txt", text)
    tree.append_line("/shared/x.txt", text)
    assert tree.disk_usage("/shared/x.txt")["bytes"] > 0


def test_random_valid_calls_never_break_the_tree(tree: Backend) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        for name in TOOLS:
            call = ToolCall(name, sample_value(TOOLS.parameters(name), rng))
            assert TOOLS.check(call, list(TOOLS)) is None
            result = attempt(tree, call)
            assert result.message if isinstance(result, ToolError) else json.dumps(result)


def test_declarations_are_tight_and_their_examples_lead_nowhere() -> None:
    paths = {path for preset in PRESETS for task in tasks_of(preset, num_tasks=20) for path in task.state["nodes"]}
    for name in TOOLS:
        assert TOOLS.parameters(name)["additionalProperties"] is False
        for schema in TOOLS.parameters(name)["properties"].values():
            assert schema["description"]
            for example in schema.get("examples", ()):
                assert re.search(schema.get("pattern", ""), example) and len(example) <= schema["maxLength"]
                assert example not in paths
    for path in ("relative", "/a/../b", "/a//b", "/a/", "/.hidden", "~", ""):
        assert TOOLS.check(ToolCall("read_file", {"path": path}), list(TOOLS)) is not None
    assert TOOLS.check(ToolCall("list_directory", {"path": "/"}), list(TOOLS)) is None


# -- the tasks -------------------------------------------------------------------------------------------------------


def replay(task: Task) -> Iterator[tuple[str, ToolCall, JSON]]:
    """Yield everything that could be read before a call, the call and its result."""
    backend, known = Backend(task.state), POLICY
    for turn in task.turns:
        known += "\n" + turn.message
        for message in turn.reference:
            results = [(known, call, attempt(backend, call)) for call in message.calls]
            yield from results
            known += "\n".join(str(result) for _, _, result in results)


def shown_tools(task: Task, turn: int) -> list[str]:
    return [*task.tools, *(name for shown in task.turns[: turn + 1] for name in shown.new_tools)]


@each_place
def test_references_are_valid_and_fail_only_on_purpose(split: str, preset: str) -> None:
    for task in tasks_of(preset, split):
        for number, turn in enumerate(task.turns):
            for message in turn.reference:
                for call in message.calls:
                    assert TOOLS.check(call, shown_tools(task, number)) is None, (task.id, call)
        failed = [call.name for _, call, result in replay(task) if isinstance(result, ToolError)]
        assert failed == (["copy_path"] if task.kind in FULL_HOME else []), task.id


@each_place
def test_every_argument_was_said_or_returned(split: str, preset: str) -> None:
    for task in tasks_of(preset, split):
        for known, call, _ in replay(task):
            for name, value in call.arguments.items():
                is_path = name in ("path", "source", "target", "directory") and value != "/"
                parts = value.strip("/").split("/") if is_path else re.split("\n|: ?", value)
                for part in parts:
                    words = part.removesuffix(".txt") if name == "target" else part.removeprefix("*")
                    assert words in known, (task.id, call, part)


@each_place
def test_facts_are_told_without_their_decoys_and_not_by_the_user(split: str, preset: str) -> None:
    for task in tasks_of(preset, split):
        for turn in task.turns:
            *acting, last = turn.reference
            assert last.content and not last.calls and all(message.calls and not message.content for message in acting)
            for fact in turn.facts:
                assert contains_word(last.content, fact.value)
                assert not any(contains_word(last.content, decoy) for decoy in fact.decoys)
                assert not contains_word(" ".join(other.message for other in task.turns), fact.value)


def test_questions_have_decoys() -> None:
    asked = {
        task.kind: fact
        for preset in ("medium", "hard")
        for task in tasks_of(preset)
        for turn in task.turns
        for fact in turn.facts
        if task.kind != ERRANDS
    }
    assert set(asked) == {"read_value", "search_value", "folder_size", "copy_and_ask"}
    assert all(fact.decoys for kind, fact in asked.items() if kind != "folder_size")


@each_place
def test_reasoning_is_one_line_that_names_the_next_tools(split: str, preset: str) -> None:
    for task in tasks_of(preset, split):
        for message in (message for turn in task.turns for message in turn.reference):
            assert 8 <= len(message.reasoning.split()) <= 40 and "\n" not in message.reasoning, message.reasoning
            assert all(call.name in message.reasoning for call in message.calls), message.reasoning


def other_values(task: Task, call: ToolCall, name: str) -> list[str]:
    """Valid values of an argument other than the right one: of the schema, and of this tree."""
    schema, value = TOOLS.parameters(call.name)["properties"][name], call.arguments[name]
    values = [*schema.get("enum", ()), *schema.get("examples", ())]
    if name in ("path", "source", "target", "subject"):
        values += [*task.state["nodes"], f"{value}x", parent_of(value)]
    elif "enum" not in schema:
        values += [f"{value}x", value.upper(), value[:-1] or "x"]
    return [other for other in dict.fromkeys(values) if other != value]


@pytest.mark.parametrize(
    ("split", "preset"),
    [pytest.param(*place, marks=pytest.mark.slow if place[1] == "hard" else ()) for place in PLACES],
)
def test_every_change_and_each_of_its_arguments_counts(split: str, preset: str) -> None:
    for task in tasks_of(preset, split, 25):
        calls = task.reference_calls()
        goal = end_of(task, calls)
        failed = [isinstance(result, ToolError) for _, _, result in replay(task)]
        for i, call in enumerate(calls):
            if call.name in LOOK_UPS or failed[i]:
                continue
            assert end_of(task, calls[:i] + calls[i + 1 :]) != goal, (task.id, call)
            for name in call.arguments:
                for value in other_values(task, call, name):
                    other = ToolCall(call.name, {**call.arguments, name: value})
                    if TOOLS.check(other, list(TOOLS)) is not None:
                        continue
                    is_same_edit = call.name == "edit_file" and name == "old"  # any text around the value will do
                    state = end_of(task, (*calls[:i], other, *calls[i + 1 :]))
                    assert state != goal or is_same_edit, (task.id, other)


NEEDED_TOOL = {"remove": "remove_path", "delete": "remove_path", "copy": "copy_path"}


def rule_against(task: Task, turn: int, subject: str, state: JSON) -> str | None:
    """The first rule of the policy that forbids what the user says in a turn, judged from the state alone."""
    message, nodes = task.turns[turn].message, state["nodes"]
    login = next(login for login in state["quotas"] if f"/home/{login}/trash" in nodes)
    home, verb = f"/home/{login}", next((verb for verb in NEEDED_TOOL if verb in message.lower()), "")
    name, is_copy = name_of(subject), "copy" in message.lower()
    folders = [path for path in nodes if path.startswith((home, "/shared")) and f"folder {name_of(path)}" in message]
    targets = [f"{folder}/{name}" for folder in folders if parent_of(subject) != folder]
    quota = Backend(state).get_quota(login)
    in_trash = Backend(state).disk_usage(f"{home}/trash")["bytes"]
    is_impossible = re.search("Print|Send|Compress|Protect|Translate", message) is not None
    has_tool = NEEDED_TOOL[verb] in shown_tools(task, turn) if verb else not is_impossible
    rules = {
        "not_found": not any(name_of(path) == name for path in nodes),
        "no_tool": not has_tool,
        "not_owner": not below(home, subject) and not below("/shared", subject),
        "read_only": subject in state["read_only"] and not is_copy,
        "name_taken": "replace" not in message.lower() and any(target in nodes for target in targets),
        "over_quota": is_copy and len((nodes.get(subject) or "").encode()) > quota["free_bytes"] + in_trash,
    }
    return next((rule for rule, is_broken in rules.items() if is_broken), None)


@pytest.mark.parametrize("split", SPLITS)
def test_only_what_a_rule_forbids_is_declined(split: str) -> None:
    declined: dict[str, set[str]] = {}
    for task in (task for preset in PRESETS for task in tasks_of(preset, split, 150)):
        backend = Backend(task.state)
        for number, turn in enumerate(task.turns):
            for call in (call for message in turn.reference for call in message.calls):
                if call.name == "decline":
                    reason = rule_against(task, number, call.arguments["subject"], backend.snapshot())
                    assert reason == call.arguments["reason"], (task.id, call)
                    declined.setdefault(task.kind, set()).add(reason)
                elif task.kind in ("move", "copy", "rename", "remove", "replace", "name_taken"):
                    subject = call.arguments.get("source", call.arguments.get("path"))
                    if call.name not in LOOK_UPS and backend.snapshot()["nodes"].get(subject) is not None:
                        assert rule_against(task, number, subject, backend.snapshot()) is None, (task.id, call)
                attempt(backend, call)
    assert declined.pop(ERRANDS) <= set(REASONS)
    assert declined == {**{reason: {reason} for reason in REASONS}, "late_tool": {"no_tool"}}


def test_refused_requests_change_nothing_but_the_record() -> None:
    for task in (task for task in tasks_of("medium", num_tasks=200) if task.kind in REASONS):
        state = end_of(task, task.reference_calls())
        assert [part for part in state if state[part] != task.state[part]] == ["declined"], task.id
        assert len(state["declined"]) == 1


def test_no_two_files_say_the_same() -> None:
    """Or a copy of the wrong one would be as good as a copy of the right one."""
    for task in (task for preset in PRESETS for task in tasks_of(preset)):
        texts = [text for text in task.state["nodes"].values() if text is not None]
        assert len(set(texts)) == len(texts), task.id


def test_a_late_tool_is_hidden_until_the_user_says_so() -> None:
    for task in (task for task in tasks_of("medium", num_tasks=200) if task.kind == "late_tool"):
        first, second = task.turns
        (late,) = second.new_tools
        assert late not in task.tools and not first.new_tools
        assert [call.name for message in second.reference for call in message.calls] == [late]


def test_what_is_missing_is_asked_for_first() -> None:
    asked = [task for preset in PRESETS for task in tasks_of(preset, num_tasks=150) if task.kind == "missing"]
    assert len({next(iter(task.reference_calls()[-1:])).name for task in asked}) == 3
    for task in asked:
        (question,), *_ = (turn.reference for turn in task.turns)
        assert question.content.endswith("?") and not question.calls


def test_the_user_chooses_between_files_of_one_name() -> None:
    for task in (task for task in tasks_of("hard", num_tasks=150) if task.kind == "choose"):
        first, second = task.turns
        found = next(result for _, _, result in replay(task))["found"]
        assert len(found) == 2 and all(each["path"] in first.reference[-1].content for each in found)
        changed = second.reference[0].calls[0].arguments
        assert name_of(parent_of(changed.get("source", changed.get("path")))) in second.message


def test_making_room_empties_the_trash_and_nothing_else() -> None:
    for task in (task for task in tasks_of("medium", num_tasks=150) if task.kind == "make_room"):
        state = end_of(task, task.reference_calls())
        refused = sum(isinstance(result, ToolError) for *_, result in replay(task))
        gone = set(task.state["nodes"]) - set(state["nodes"])
        assert refused == 1 and len(gone) >= 2 and all("/trash/" in path for path in gone)
        assert not any("/trash/" in path for path in state["nodes"])


def test_values_taken_from_files_are_the_files_values() -> None:
    checked = set()
    for task in tasks_of("hard", num_tasks=200):
        state = end_of(task, task.reference_calls())
        if task.kind == "rename_by_content":
            (new,) = set(state["nodes"]) - set(task.state["nodes"])
            assert f"invoice: {name_of(new).removesuffix('.txt')}\n" in state["nodes"][new]
        elif task.kind == "collect":
            (new,) = set(state["nodes"]) - set(task.state["nodes"])
            beside = sorted(path for path in state["nodes"] if parent_of(path) == parent_of(new) and path != new)
            key = state["nodes"][new].partition(":")[0]
            lines = [line for path in beside for line in (state["nodes"][path] or "").split("\n")]
            assert state["nodes"][new].split("\n") == [line for line in lines if line.startswith(f"{key}:")]
        elif task.kind == "sort_by_content":
            moved = set(state["nodes"]) - set(task.state["nodes"])
            (folder,) = {parent_of(path) for path in set(task.state["nodes"]) - set(state["nodes"])}
            (supplier,) = {state["nodes"][path].split("\n")[0] for path in moved}
            left = [text or "" for path, text in state["nodes"].items() if parent_of(path) == folder]
            assert len(moved) == 2 and not any(supplier in text for text in left)
        else:
            continue
        checked.add(task.kind)
    assert checked == {"rename_by_content", "collect", "sort_by_content"}


# -- the generator ---------------------------------------------------------------------------------------------------


def test_kinds_take_turns_and_every_tool_is_used() -> None:
    tasks = [task for preset in PRESETS for task in tasks_of(preset)]
    assert {task.kind for task in tasks} == set(KINDS)
    assert {call.name for task in tasks for call in task.reference_calls()} == set(TOOLS)
    for preset in PRESETS:
        kinds = [task.kind for task in tasks_of(preset, num_tasks=120)]
        counts = [kinds.count(kind) for kind in set(kinds)]
        assert max(counts) - min(counts) <= 1


def test_presets_grow_harder() -> None:
    paths, calls, lookalikes = [], [], []
    for preset in DIFFICULTIES:
        tasks = list(tasks_of(preset))
        paths.append(np.mean([len(task.state["nodes"]) for task in tasks]))
        calls.append(np.mean([len(task.reference_calls()) for task in tasks]))
        names = [[name_of(path) for path in task.state["nodes"]] for task in tasks]
        lookalikes.append(np.mean([len(each) > len(set(each)) for each in names]))
    assert all((np.diff(values) > 0).all() for values in (paths, calls, lookalikes))
    assert lookalikes[0] == 0
    assert {len(task.turns) for task in tasks_of("easy")} == {1, 2}
    assert {len(task.turns) for task in tasks_of("hard", num_tasks=300)} >= {1, 2, 3, 4}


def test_splits_share_no_user_but_every_name() -> None:
    logins = {
        split: {login for preset in PRESETS for task in tasks_of(preset, split) for login in task.state["quotas"]}
        for split in SPLITS
    }
    assert not logins["train"] & logins["test"]
    train, test = set(people_of("train")), set(people_of("test"))
    assert not train & test and len(train) == 3 * len(test) == 300
    for position, names in enumerate((FIRST_NAMES, LAST_NAMES)):
        assert {person[position] for person in train} == {person[position] for person in test} == set(names)


def test_splits_share_no_task() -> None:
    prints = {
        split: {json.dumps(replace(task, id="").to_json()) for preset in PRESETS for task in tasks_of(preset, split)}
        for split in SPLITS
    }
    assert len(prints["train"]) == len(prints["test"]) == 100 * len(PRESETS)
    assert not prints["train"] & prints["test"]


@each_place
def test_generate_is_a_pure_function(split: str, preset: str) -> None:
    first = [json.dumps(generate(split, index, preset).to_json()) for index in range(30)]
    assert first == [json.dumps(generate(split, index, preset).to_json()) for index in range(30)]
    assert all(json.dumps(Task.from_json(json.loads(text)).to_json()) == text for text in first)
    assert generate(split, 10**9, preset).id == f"{split}/{preset}/{10**9}"


@pytest.mark.parametrize(
    ("split", "index", "preset"), [("dev", 0, "easy"), ("train", 0, "full"), ("train", -1, "easy")]
)
def test_impossible_tasks_are_refused(split: str, index: int, preset: str) -> None:
    with pytest.raises(UsageError):
        generate(split, index, preset)


def test_the_policy_names_every_reason_to_decline() -> None:
    positions = [POLICY.index(f"with {reason}") for reason in REASONS]
    assert positions == sorted(positions)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_rubric_likes_the_reference(preset: str) -> None:
    env = ToolUseEnv("awpo_tools.filesystem", preset=preset)
    transcripts = []
    for task in tasks_of(preset):
        env.reset(options={"task_id": task.id})
        for message in (message for turn in task.turns for message in turn.reference):
            env.step(env.parser.format(message))
        transcripts.append(env.transcript)
    env.close()
    scores = [score.value for score in RubricJudge().score(transcripts)]
    assert np.mean(scores) >= 0.9 and min(scores) >= 0.8

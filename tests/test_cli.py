"""The `awpo` command as a person meets it: exit statuses, one-sentence errors, help that teaches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from awpo_agent import cli
from awpo_env.suites import load_suite


def awpo(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "awpo_agent.cli", *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)


def mistake(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one sentence an impossible command is answered with."""
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("awpo: ") and shown.err.count("\n") == 1
    return shown.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["env", "chekc"], "Did you mean 'check'?"),
        (["env"], "'env' needs a command; expected one of list, play, check, export"),
        (["env", "list", "--jsno"], "Did you mean '--json'?"),
        (["env", "list", "surplus"], "unrecognized arguments: surplus"),
        (
            ["eval", "--polcy", "oracle"],
            "awpo eval does not know '--polcy'; see `awpo eval --help`. Did you mean '--policy'",
        ),
        (["env", "play"], "the following arguments are required: env; see `awpo env play --help`"),
        (["env", "play", "calculator", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["env", "play", "awpo/Calculater-v0"], "Did you mean 'awpo/Calculator-v0'?"),
        (["env", "play", "awpo/ToolUse-v0"], "name the suite itself"),
        (["env", "play", "calculater"], "Did you mean 'calculator'?"),
        (["env", "play", "calculator", "--preset", "fulll"], "Did you mean 'full'?"),
        (["env", "play", "calculator", "--task", "train/full/x"], "'<split>/<preset>/<index>'"),
        (["env", "check", "./no_such_folder"], "'./no_such_folder' does not exist"),
        (["env", "check", "calculator", "--episodes", "0"], "expected at least 1"),
    ],
)
def test_a_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert told in mistake(capsys, *words)


def test_a_mistake_ends_the_process_with_status_2_and_no_traceback() -> None:
    result = awpo("env", "play", "awpo/Calculater-v0")
    assert result.returncode == 2
    assert result.stdout == "" and "Traceback" not in result.stderr


def test_without_words_the_help_goes_to_stderr() -> None:
    result = awpo()
    assert result.returncode == 2
    assert result.stdout == "" and "usage: awpo COMMAND" in result.stderr


def test_help_names_every_command_and_gives_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    for name, command in cli.COMMANDS.items():
        assert f"  {name} " in shown and command.summary in shown


@pytest.mark.parametrize("name", ["env list", "env play", "env check"])
def test_each_command_explains_itself_with_examples(capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([*name.split(), "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: awpo {name}" in shown
    assert f"examples:\n  awpo {name}" in shown


def test_group_help_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env", "--help"]) == 0
    assert "env play" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("awpo 0.")


def test_a_command_that_parses_itself_gets_its_words_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    module = type(sys)("fake_train")
    module.main = lambda words: given.append(words) or 7
    monkeypatch.setitem(sys.modules, "awpo_agent.train", module)
    words = ["--help", "--config", "a.yaml", "--", "--no-such-flag"]
    assert cli.main(["train", *words]) == 7
    assert given == [words]


@pytest.mark.parametrize(("module", "extra"), [("torch", "train"), ("yaml.nodes", "train"), ("aiohttp", "judge")])
def test_a_missing_extra_is_one_sentence(capsys: pytest.CaptureFixture[str], module: str, extra: str) -> None:
    def run() -> int:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    assert cli.guarded(run) == 2
    told = capsys.readouterr().err
    assert f"pip install 'awpo[{extra}]'" in told and told.count("\n") == 1


def test_other_exceptions_stay_tracebacks() -> None:
    def run() -> int:
        raise ModuleNotFoundError("No module named 'my_own'", name="my_own")

    with pytest.raises(ModuleNotFoundError):
        cli.guarded(run)
    with pytest.raises(ZeroDivisionError):
        cli.guarded(lambda: 1 // 0)


def test_an_interrupt_is_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        raise KeyboardInterrupt

    assert cli.guarded(run) == 130
    assert capsys.readouterr().err == "awpo: interrupted\n"


def test_a_closed_pipe_is_quiet() -> None:
    command = [sys.executable, "-m", "awpo_agent.cli", "env", "check", "calculator", "--episodes", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 141


def test_env_commands_import_no_torch() -> None:
    script = (
        "import sys; from awpo_agent.cli import main; status = main(['env', 'list', '--json']); "
        "sys.exit(status or any(name in sys.modules for name in ('torch', 'transformers', 'openai', 'yaml')))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0


def test_env_list_as_json_and_as_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env", "list", "--json"]) == 0
    entries = {entry["id"]: entry for entry in json.loads(capsys.readouterr().out)}
    calculator = load_suite("calculator")
    assert entries["awpo/Calculator-v0"]["num_tools"] == len(calculator.tools)
    assert entries["awpo/Calculator-v0"]["kinds"] == list(calculator.kinds)
    assert entries["awpo/ToolUse-v0"]["suite"] is None
    assert cli.main(["env", "list"]) == 0
    table = capsys.readouterr().out
    assert all(env_id in table for env_id in entries)


def test_env_check_passes_on_a_sound_suite(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env", "check", "awpo/Calculator-v0", "--episodes", "3"]) == 0
    shown = capsys.readouterr().out
    assert "calculator: all checks passed" in shown and "FAIL" not in shown


def write_unsolvable_suite(folder: Path) -> None:
    """A suite whose only reference solution calls a tool with an argument that its schema forbids."""
    level = {"level": {"type": "integer"}}
    parameters = {"type": "object", "properties": level, "required": ["level"], "additionalProperties": False}
    function = {"name": "dim", "description": "Dim the light.", "parameters": parameters}
    call = {"name": "dim", "arguments": {"level": "low"}}
    turn = {"message": "Dim the light.", "reference": [{"calls": [call]}, {"content": "Done."}]}
    tasks = [{"id": f"dim_{n}", "kind": "dim", "state": n, "turns": [turn]} for n in range(3)]
    (folder / "tools.json").write_text(json.dumps([{"type": "function", "function": function}]))
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    (folder / "policy.md").write_text("Dim when asked.")
    (folder / "backend.py").write_text(
        "class Backend:\n"
        "    def __init__(self, state): self.state = state\n"
        "    def snapshot(self): return self.state\n"
        "    def restore(self, snapshot): self.state = snapshot\n"
        "    def dim(self, level): self.state = level\n"
    )


def test_env_check_fails_on_an_unsolvable_suite_with_every_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_unsolvable_suite(tmp_path)
    assert cli.main(["env", "check", f"{tmp_path}/"]) == 1
    shown = capsys.readouterr().out
    assert "0 of 3 tasks solved" in shown
    assert "reference solves: dim_0 and 2 more: the reference solution ends as completed" in shown
    assert cli.main(["env", "check", f"{tmp_path}/", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    failed = {check["name"]: check["findings"] for check in report["checks"] if not check["passed"]}
    assert not report["passed"]
    assert [finding.partition(":")[0] for finding in failed["reference solves"]] == ["dim_0", "dim_1", "dim_2"]


def test_a_person_solves_a_calculator_task() -> None:
    task = load_suite("calculator").task("train/full/0")
    lines = []
    for turn in task.turns:
        for step in turn.reference:
            for call in step.calls:
                lines.append(call.name + "".join(f" {name}={value}" for name, value in call.arguments.items()))
        lines.append(turn.reference[-1].content)
    result = awpo("env", "play", "awpo/Calculator-v0", "--task", task.id, stdin="\n".join(lines) + "\n")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Solved." in result.stdout and result.stderr == ""
    assert "\x1b[" not in result.stdout


def test_a_person_who_leaves_the_pipe_has_not_solved() -> None:
    result = awpo("env", "play", "calculator", "--seed", "1", stdin="")
    assert result.returncode == 1
    assert "The input ended before the task" in result.stdout and "Traceback" not in result.stderr


def test_the_oracle_solves_a_task() -> None:
    result = awpo("env", "play", "calculator", "--seed", "1", "--oracle")
    assert result.returncode == 0 and "Solved." in result.stdout

"""What a run leaves behind: folders appear whole or not at all, records are cut back to the checkpoint."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from awpo_agent.checkpoint import (
    newest_checkpoint,
    prune,
    read_state,
    save_checkpoint,
    set_aside,
    write_folder,
)
from awpo_agent.policy import check_written, read_policy, write_policy
from awpo_agent.tracking import RunRecorder
from awpo_env.errors import UsageError


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(**files):
    def write_into(folder):
        for name, text in files.items():
            (folder / name).write_text(text)

    return write_into


def test_a_folder_replaces_the_older_one(tmp_path):
    folder = tmp_path / "deep" / "model"
    write_folder(folder, write(a="1", b="2"))
    write_folder(folder, write(a="3"))
    assert contents(folder) == {"a": "3"}
    assert names(folder.parent) == ["model"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_writer_that_fails_halfway_changes_nothing(tmp_path, error, is_new):
    folder = tmp_path / "model"
    if not is_new:
        write_folder(folder, write(a="old"))

    def fail(unfinished):
        (unfinished / "a").write_text("ne")
        raise error

    with pytest.raises(type(error)):
        write_folder(folder, fail)
    assert names(tmp_path) == ([] if is_new else ["model"])
    assert is_new or contents(folder) == {"a": "old"}


def test_a_folder_that_cannot_be_put_in_place_gives_way_to_the_old_one(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    write_folder(folder, write(a="old"))
    rename = Path.rename

    def refuse_the_new_one(path, target):
        if path.name.endswith(".part"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(OSError, match="Input/output"):
        write_folder(folder, write(a="new"))
    assert names(tmp_path) == ["model"] and contents(folder) == {"a": "old"}


def test_what_a_killed_process_left_is_no_obstacle(tmp_path):
    (tmp_path / ".model.part").mkdir()
    (tmp_path / ".model.part" / "junk").touch()
    write_folder(tmp_path / "model", write(a="1"))
    assert contents(tmp_path / "model") == {"a": "1"}


@pytest.fixture
def happened(monkeypatch):
    """What was made durable, what it held then, and what was renamed, in order."""
    events, fsync, rename = [], os.fsync, Path.rename

    def note_fsync(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        events.append((path.name, names(path) if path.is_dir() else path.read_bytes()))
        fsync(descriptor)

    def note_rename(path, target):
        events.append((path.name, target.name))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    return events


def test_contents_are_on_the_disk_before_the_name_and_the_name_before_the_older_folder_goes(tmp_path, happened):
    save(tmp_path / "checkpoint-3")
    happened.clear()
    save(tmp_path / "checkpoint-3", step=3)
    state = (tmp_path / "checkpoint-3" / "training_state.json").read_bytes()
    durable = {
        "model.safetensors": b"weights",
        "optimizer": b"moments",
        "training_state.json": state,
        "deep": ["optimizer"],
        ".checkpoint-3.part": ["deep", "model.safetensors", "training_state.json"],
    }
    assert b'"step": 3' in state and sorted(happened[:5]) == sorted(durable.items())
    assert happened[5:] == [
        ("checkpoint-3", ".checkpoint-3.old"),
        (".checkpoint-3.part", "checkpoint-3"),
        (tmp_path.name, [".checkpoint-3.old", "checkpoint-3"]),
    ]
    assert names(tmp_path) == ["checkpoint-3"]


def refuse_fsync(monkeypatch, number, of_folders):
    def refuse(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").is_dir() == of_folders:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize(
    ("number", "of_folders"), [(errno.EIO, False), (errno.ENOSPC, False), (errno.EINVAL, False), (errno.EIO, True)]
)
def test_contents_that_the_disk_does_not_take_change_nothing(tmp_path, monkeypatch, number, of_folders):
    write_folder(tmp_path / "model", write(a="old"))
    refuse_fsync(monkeypatch, number, of_folders)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_folder(tmp_path / "model", write(a="new"))
    assert names(tmp_path) == ["model"] and contents(tmp_path / "model") == {"a": "old"}


def test_a_file_system_need_not_know_durable_folders(tmp_path, monkeypatch):
    refuse_fsync(monkeypatch, errno.EINVAL, of_folders=True)
    write_folder(tmp_path / "model", write(a="1"))
    assert contents(tmp_path / "model") == {"a": "1"}


def test_a_policy_comes_back_from_a_plain_hugging_face_folder(tmp_path, make_model, tokenizer):
    model, other = make_model(0), make_model(1)
    write_policy(model, tmp_path, model.state_dict())
    tokenizer.save_pretrained(tmp_path)
    loaded, again = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = again.encode("Increase 12 by 3, then <think>divide</think>.")
    assert ids == tokenizer.encode("Increase 12 by 3, then <think>divide</think>.")
    assert (again.eos_token, again.chat_template) == (tokenizer.eos_token, tokenizer.chat_template)
    read_policy(other, tmp_path)
    for twin in (loaded, other):
        with torch.no_grad():
            assert torch.equal(twin(torch.tensor([ids])).logits, model(torch.tensor([ids])).logits)


def test_a_policy_of_another_depth_is_refused(tmp_path, make_model):
    write_policy(make_model(0), tmp_path, make_model(0).state_dict())
    deeper = make_model(1)
    deeper.config.num_hidden_layers = 3
    with pytest.raises(UsageError, match="another model: its num_hidden_layers is 2, not 3"):
        check_written(deeper, tmp_path)


def save(folder, step=0, stages_begun=0):
    def write_parts(unfinished):
        (unfinished / "deep").mkdir()
        (unfinished / "model.safetensors").write_bytes(b"weights")
        (unfinished / "deep" / "optimizer").write_bytes(b"moments")

    save_checkpoint(folder, write_parts, {"step": step, "stages_begun": stages_begun, "optimizer": "whole"})


def test_what_is_kept_beside_the_weights_comes_back(tmp_path):
    save(tmp_path / "checkpoint-3", step=3, stages_begun=1)
    assert read_state(tmp_path / "checkpoint-3") == {"step": 3, "stages_begun": 1, "optimizer": "whole"}
    with pytest.raises(UsageError, match="is no checkpoint of a training run"):
        read_state(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "deep/optimizer", "training_state.json"])
@pytest.mark.parametrize("how", ["cut off", "missing"])
def test_a_torn_checkpoint_is_named_and_skipped(tmp_path, name, how, caplog):
    for step in (2, 10):
        save(tmp_path / f"checkpoint-{step}", step=step)
    torn = tmp_path / "checkpoint-10" / name
    torn.write_bytes(torn.read_bytes()[:-3]) if how == "cut off" else torn.unlink()
    assert newest_checkpoint(tmp_path).name == "checkpoint-2"
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "checkpoint-10" in warning and torn.name in warning
    with pytest.raises(UsageError, match="checkpoint-10"):
        read_state(tmp_path / "checkpoint-10")


def state_text(**changes):
    whole = {
        "step": 10,
        "stages_begun": 0,
        "optimizer": "whole",
        "files": {"model.safetensors": 7, "deep/optimizer": 7},
    }
    return json.dumps({name: value for name, value in (whole | changes).items() if value != "missing"}).encode()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "Expecting value"),
        (b"\0" * 64, "Expecting value"),
        (state_text()[:-9] + b"\0" * 9, "control character"),
        (b"\xff\xfe", "utf-8"),
        (b"[" * 100_000, "is damaged"),
        (b"{}", "step is None, expected a whole number from 0 on"),
        (b"[]", "it holds [], expected an object"),
        (b"null", "it holds None, expected an object"),
        (b'"step"', "it holds 'step', expected an object"),
        (b"[" + b"1," * 9_999 + b"1]", "it holds [1, 1, 1"),
        *((state_text(step=wrong), "step is") for wrong in ("missing", None, "3", 3.0, True, -1, [3])),
        *((state_text(optimizer=wrong), "optimizer is") for wrong in ("missing", None, 3)),
        *((state_text(stages_begun=wrong), "stages_begun is") for wrong in ("missing", None, "0", 0.5, False, -1)),
        *(
            (state_text(files=wrong), "files is")
            for wrong in ("missing", None, [], "a", {"a": "7"}, {"a": True}, {"a": -1})
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_state_is_named_in_one_short_sentence_and_skipped(tmp_path, text, fault, caplog):
    for step in (2, 10):
        save(tmp_path / f"checkpoint-{step}", step=step)
    (tmp_path / "checkpoint-10" / "training_state.json").write_bytes(text)
    with pytest.raises(UsageError) as raised:
        read_state(tmp_path / "checkpoint-10")
    message = str(raised.value)
    assert message.startswith(f"training_state.json of '{tmp_path / 'checkpoint-10'}' is damaged (")
    assert fault in message and message.endswith("; take an older checkpoint")
    assert len(message) < len(str(tmp_path)) + 200 and "\n" not in message
    assert newest_checkpoint(tmp_path).name == "checkpoint-2"
    assert [entry.getMessage() for entry in caplog.records] == [message]


def test_a_checkpoint_that_cannot_be_read_is_named_and_skipped(tmp_path, caplog):
    for step in (2, 10, 11):
        save(tmp_path / f"checkpoint-{step}", step=step)
    (tmp_path / "checkpoint-10" / "training_state.json").unlink()
    (tmp_path / "checkpoint-10" / "training_state.json").mkdir()
    (tmp_path / "checkpoint-11").rename(tmp_path / "elsewhere")
    (tmp_path / "checkpoint-11").touch()
    assert newest_checkpoint(tmp_path).name == "checkpoint-2"
    file, folder = (entry.getMessage() for entry in caplog.records)
    assert "checkpoint-11' is no checkpoint of a training run" in file
    assert "checkpoint-10' cannot be read ([Errno 21] Is a directory" in folder


def test_the_newest_checkpoint_is_the_one_of_the_highest_step(tmp_path):
    for name in ("checkpoint-2", "checkpoint-10", "checkpoint-9"):
        save(tmp_path / name, step=0)
    for name in ("checkpoint-x", ".checkpoint-99.part", ".checkpoint-7.old"):
        (tmp_path / name).mkdir()
    assert newest_checkpoint(tmp_path).name == "checkpoint-10"
    prune(tmp_path, 2)
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-9", "checkpoint-x"]
    with pytest.raises(UsageError, match="there is no checkpoint"):
        newest_checkpoint(tmp_path / "nowhere")


def test_setting_aside_keeps_one_earlier_run(tmp_path):
    folder = tmp_path / "checkpoints"
    set_aside(folder)
    for run in ("first", "second"):
        folder.mkdir()
        (folder / run).touch()
        set_aside(folder)
    assert names(tmp_path) == ["checkpoints.old"] and names(tmp_path / "checkpoints.old") == ["second"]


# ---- records


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def record(folder, steps, first_step=0):
    recorder = RunRecorder(folder, first_step)
    for step in steps:
        recorder.write(
            {"step": step, "reward": step / 2}, [{"step": step, "n": n, "text": "\u00e9\u2028"} for n in (0, 1)]
        )
    recorder.close()


def test_records_are_one_line_each(tmp_path):
    record(tmp_path / "run", range(3))
    assert lines(tmp_path / "run" / "metrics.jsonl") == [{"step": step, "reward": step / 2} for step in range(3)]
    raw = (tmp_path / "run" / "episodes.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["step"] for line in raw if line] == [0, 0, 1, 1, 2, 2]


def test_resuming_cuts_back_to_the_checkpoint(tmp_path):
    record(tmp_path, range(5))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 1, "rew')  # the run died while writing
    record(tmp_path, range(3, 6), first_step=3)
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [0, 1, 2, 3, 4, 5]
    raw = (tmp_path / "episodes.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["step"] for line in raw if line] == [step for step in range(6) for _ in (0, 1)]
    assert names(tmp_path) == ["episodes.jsonl", "metrics.jsonl"]


def test_a_fresh_run_starts_with_empty_records(tmp_path):
    record(tmp_path, range(3))
    record(tmp_path, range(1))
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [0]


def test_a_step_is_on_disk_as_soon_as_it_is_written(tmp_path):
    recorder = RunRecorder(tmp_path, 0)
    recorder.write({"step": 0}, [{"step": 0}])
    assert lines(tmp_path / "metrics.jsonl") == lines(tmp_path / "episodes.jsonl") == [{"step": 0}]
    recorder.close()


def append(folder, name, *parts):
    with open(folder / name, "ab") as file:
        file.write(b"".join(parts))


def steps_in(path):
    return [json.loads(line)["step"] for line in path.read_bytes().split(b"\n")[:-1]]


DAMAGE = {
    "zeros": b"\0" * 4096,
    "zeros and a line's end": b"\0" * 100 + b'"}\n',
    "half a line": b'{"step": 1, "rew',
    "no UTF-8": b'{"step": 1, "text": "\xff"}\n',
    "nothing": b"\n",
    "no object": b"3\n",
    "no step": b'{"reward": 1.0}\n',
    "a step that is none": b'{"step": true}\n',
    "a step below 0": b'{"step": -1}\n',
    "nesting": b"[" * 100_000 + b"\n",
}
damages = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
both_files = pytest.mark.parametrize("name", ["metrics.jsonl", "episodes.jsonl"])


@damages
@both_files
@pytest.mark.parametrize(("played", "is_told"), [(5, False), (4, False), (3, True)])
def test_damage_behind_the_lines_that_are_kept_stops_no_resume(tmp_path, name, damage, played, is_told, caplog):
    record(tmp_path, range(3))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    record(tmp_path, range(3, played), first_step=3)
    append(tmp_path, name, damage)
    record(tmp_path, [], first_step=3)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    told = [entry.getMessage() for entry in caplog.records]
    line = 4 if name == "metrics.jsonl" else 7
    dropped = f"damaged lines of '{tmp_path / name}' dropped: 1 from line {line} on"
    assert [message.partition(",")[0] for message in told] == ([dropped] if is_told else [])


@damages
@both_files
def test_damage_between_the_lines_that_are_kept_stops_a_resume_and_changes_nothing(tmp_path, name, damage):
    for folder, steps in (("a", range(2)), ("b", range(2, 5))):
        record(tmp_path / folder, steps)
    damage = damage.removesuffix(b"\n") + b"\n"
    append(tmp_path / "a", name, damage, (tmp_path / "b" / name).read_bytes())
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    line = 3 if name == "metrics.jsonl" else 5
    expected = f"^line {line} of '.*{name}' is damaged, .* before 4; restore the line from a copy, or delete it"
    with pytest.raises(UsageError, match=expected):
        RunRecorder(tmp_path / "a", 4)
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    record(tmp_path / "a", [], first_step=2)  # the same damage, no longer between
    assert set(steps_in(tmp_path / "a" / name)) == {0, 1}


@both_files
def test_damage_in_place_of_the_last_lines_that_would_be_kept_stops_a_resume(tmp_path, name):
    record(tmp_path, range(3))
    append(tmp_path, name, b"\0" * 4096)
    with pytest.raises(UsageError, match=rf"^line \d of '.*{name}' is damaged, .* before 5;"):
        RunRecorder(tmp_path, 5)


def test_damage_within_the_last_step_that_is_kept_stops_a_resume(tmp_path):
    record(tmp_path, range(3))
    append(tmp_path, "episodes.jsonl", b"\0\n", b'{"step": 2}\n')
    with pytest.raises(UsageError, match=r"^line 7 of '.*episodes\.jsonl' is damaged"):
        RunRecorder(tmp_path, 3)


@both_files
def test_a_run_that_began_from_another_runs_checkpoint_and_died_in_its_first_step_begins_again(tmp_path, name, caplog):
    append(tmp_path, name, b'{"step": 5, "rew')
    record(tmp_path, [5], first_step=5)
    assert set(steps_in(tmp_path / name)) == {5}
    assert len(caplog.records) == 1


def test_a_fresh_run_does_not_look_at_what_it_replaces(tmp_path, caplog):
    append(tmp_path, "metrics.jsonl", b"\0\n", b'{"step": 0}\n')
    record(tmp_path, range(1))
    assert steps_in(tmp_path / "metrics.jsonl") == [0] and not caplog.records


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path, caplog):
    record(tmp_path, range(3))
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(whole[:-1])
    record(tmp_path, [], first_step=3)
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole and not caplog.records


def test_records_are_cut_back_and_written_durably(tmp_path, happened):
    record(tmp_path, range(2))
    happened.clear()
    recorder = RunRecorder(tmp_path, 1)
    first = json.dumps({"step": 0, "reward": 0.0}).encode() + b"\n"
    cut, (folder, _) = dict(happened[:2]), happened[2]
    assert cut.keys() == {"metrics.jsonl.part", "episodes.jsonl.part"} and cut["metrics.jsonl.part"] == first
    assert folder == tmp_path.name and len(happened) == 3
    happened.clear()
    recorder.write({"step": 1}, [{"step": 1}])
    written = dict(happened)
    assert written["metrics.jsonl"] == first + b'{"step": 1}\n'
    assert written["episodes.jsonl"].endswith(b'\n{"step": 1}\n')
    recorder.close()

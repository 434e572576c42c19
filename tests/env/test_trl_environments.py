"""Our environments in TRL: declared from their schemas, validated all the same, and scored by their outcome."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from awpo_env.env import ToolUseEnv
from awpo_env.errors import UsageError
from awpo_env.schema import ToolSet
from awpo_env.suites import Suite, load_suite
from awpo_env.trl_environments import TrlEnvironment, environment_factory, outcome_reward


@pytest.fixture
def start(notes: Suite) -> Callable[..., TrlEnvironment]:
    def build(task_id: str, **settings: Any) -> TrlEnvironment:
        environment = environment_factory(lambda: ToolUseEnv(notes, **settings))()
        environment.reset(task_id=task_id)
        return environment

    return build


def say(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": text}]


def test_a_reset_tells_the_policy_and_the_request(notes: Suite) -> None:
    environment = environment_factory(lambda: ToolUseEnv(notes))()
    assert environment.reset(task_id="ask", prompt=[]) == f"{notes.policy}\n\nWhat is my wifi code?"
    assert environment.reset(seed=4) == environment.reset(seed=4)
    with pytest.raises(UsageError, match="neither 'seed' nor 'task_id'"):
        environment.reset(prompt=[])


def test_an_episode_is_scored_by_its_outcome(start: Any) -> None:
    solved, guessed, silent = (start("ask") for _ in range(3))
    assert json.loads(solved.get_note(note_id="N1"))["text"] == "The code is 4711."
    silent.get_note(note_id="N1")
    completions = [say("It is 4711."), say("It is 4711."), [{"role": "tool", "content": "4711"}]]
    rewards = outcome_reward(completions=completions, environments=[solved, guessed, silent], seed=[1, 1, 1])
    assert rewards == [1.0, 0.0, 0.0]


def test_wrong_arguments_are_answered_and_not_run(start: Any) -> None:
    environment = start("add")
    assert (
        json.loads(environment.add_note(title="Milk", text="x", priority="high"))["error"]["code"]
        == "invalid_arguments"
    )
    assert json.loads(environment.delete_note(note_id="N9"))["error"]["code"] == "tool_error"


def test_a_broken_environment_has_no_reward(start: Any, notes: Suite) -> None:
    def burn(self: Any) -> None:
        raise RuntimeError("disk on fire")

    broken = dataclasses.replace(notes, backend=type("Backend", (notes.backend,), {"list_notes": burn}))
    environment = environment_factory(lambda: ToolUseEnv(broken))()
    environment.reset(task_id="ask")
    assert "disk on fire" in environment.list_notes()
    assert "the episode is over: environment_error" in environment.list_notes()
    assert outcome_reward([say("4711")], [environment]) == [None]


def test_calls_after_the_limit_say_so(start: Any) -> None:
    environment = start("ask", limits={"max_turns": 1})
    environment.list_notes()
    assert "the episode is over: max_turns" in environment.get_note(note_id="N1")
    assert outcome_reward([say("4711")], [environment]) == [0.0]


def test_hints_say_what_the_schema_says(notes: Suite) -> None:
    factory = environment_factory(lambda: ToolUseEnv(notes))
    signature = inspect.signature(factory.add_note)
    tags = "tags: list[typing.Literal['home', 'work', 'idea']] = None"
    assert str(signature) == f"(self, title: str, text: str, {tags}, priority: int = None) -> str"
    public = [name for name, _ in inspect.getmembers(factory, inspect.isfunction) if not name.startswith("_")]
    assert public == sorted([*notes.tools, "reset"])


def test_an_argument_that_may_be_anything_has_a_hint_and_a_line(notes: Suite) -> None:
    parameters = {"type": "object", "properties": {"which": True}}
    declared = {"name": "list_notes", "description": "List.", "parameters": parameters}
    suite = dataclasses.replace(notes, tools=ToolSet([{"type": "function", "function": declared}]))
    method = environment_factory(lambda: ToolUseEnv(suite)).list_notes
    assert "which: which" in method.__doc__ and method.__annotations__["which"] is Any


def test_what_trl_cannot_take_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a ToolUseEnv"):
        environment_factory(lambda: gymnasium.make("CartPole-v1"))


@pytest.mark.heavy
@pytest.mark.filterwarnings("default")  # TRL's own are not ours to mend
def test_trl_trains_on_our_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trl = pytest.importorskip("trl", reason="needs pip install 'awpo[trl]'")
    import datasets
    from transformers import Qwen3Config, Qwen3ForCausalLM
    from transformers.utils import get_json_schema

    from awpo_agent.tokenizer import train_tokenizer

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    suite = load_suite("calculator")
    factory = environment_factory(lambda: gymnasium.make("awpo/Calculator-v0"))
    for name in suite.tools:
        declared, ours = (
            get_json_schema(getattr(factory(), name))["function"],
            suite.tools.declarations[name]["function"],
        )
        assert declared["name"] == name and declared["description"] == ours["description"]
        assert declared["parameters"]["required"] == ours["parameters"]["required"]
        for word, schema in ours["parameters"]["properties"].items():
            assert declared["parameters"]["properties"][word]["type"] == schema["type"]

    task = next(task for task in (suite.task(f"train/full/{index}") for index in range(99)) if task.kind == "one_step")
    (call,) = task.reference_calls()
    tokenizer = train_tokenizer([suite.policy, *map(json.dumps, suite.tools.declarations.values())], 500)
    templates = Path(trl.__file__).parent / "chat_templates"
    tokenizer.chat_template = (templates / "qwen3.jinja").read_text()
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        head_dim=16, intermediate_size=32, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    written = [
        f"<tool_call>\n{json.dumps({'name': call.name, 'arguments': call.arguments})}\n</tool_call>",
        f"It is {task.turns[0].facts[0].value}.",
    ]
    rows = [{"prompt": [{"role": "user", "content": ""}], "task_id": task.id} for _ in range(4)]
    settings = {
        "output_dir": str(tmp_path), "max_steps": 1, "per_device_train_batch_size": 4, "num_generations": 4,
        "max_completion_length": 400, "report_to": "none", "use_cpu": True, "logging_steps": 1, "save_strategy": "no",
    }  # fmt: skip
    trainer = trl.GRPOTrainer(
        Qwen3ForCausalLM(config),
        reward_funcs=[outcome_reward],
        args=trl.GRPOConfig(**settings),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        environment_factory=factory,
    )
    turns = iter([[0, 0, 1, 1], [1, 1]])  # the first two call and then answer, the others only answer

    def generate(prompt_ids: Any, *rest: Any, **options: Any) -> Any:
        ids = [
            [*tokenizer.encode(written[kind], add_special_tokens=False), tokenizer.eos_token_id] for kind in next(turns)
        ]
        return ids, None

    monkeypatch.setattr(trainer, "_generate_single_turn", generate)
    trainer.train()
    (logged,) = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert logged["reward"] == pytest.approx(0.5)
    assert logged["tools/failure_frequency"] == 0.0

"""``awpo train`` and ``accelerate launch -m awpo_agent.train``: settings in, a trained checkpoint out."""

from __future__ import annotations

import contextlib
import functools
import sys
import textwrap
from collections.abc import Iterator, Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging

from awpo_agent.advantages import Estimator
from awpo_agent.arguments import parse_config, show
from awpo_agent.chat import ChatTokens
from awpo_agent.checkpoint import newest_checkpoint
from awpo_agent.cli import guarded
from awpo_agent.config import AWPOConfig
from awpo_agent.console import TrainingTable
from awpo_agent.engines.base import check_length
from awpo_agent.engines.factory import make_engine
from awpo_agent.plan import describe, plan_of
from awpo_agent.processes import join_processes
from awpo_agent.tracking import check_trackers
from awpo_agent.trainer import AWPOTrainer
from awpo_env.catalogue import make
from awpo_env.errors import UsageError
from awpo_env.judges.base import Judge
from awpo_env.judges.loading import load_judge

_EPILOG = "Example: awpo train --config awpo_agent/quickstart.yaml --learning_rate 5e-5 --output_dir runs/mine"


def main(argv: Sequence[str]) -> int:
    """Run ``awpo train``."""
    config, is_dry_run = parse_config(
        AWPOConfig, argv, "awpo train", f"Train a model on a tool-use environment with AWPO. {_EPILOG}"
    )
    state = join_processes()
    config.check(state.num_processes)
    check_trackers(config.report_to)
    if is_dry_run:
        plan = plan_of(config, load_model_config(config.model), state.num_processes)
        if state.is_main_process:
            show(config)
            print(textwrap.indent(describe(plan), "# "))
        return 0
    try:
        run(config)
    finally:
        # A group that is still there when Python ends may abort the process, after all is done.
        state.destroy_process_group()
    return 0


def run(config: AWPOConfig, estimator: Estimator | None = None) -> Path:
    """Train as `config` says and return the last checkpoint.

    Args:
        estimator: Replaces the one the config names.

    Raises:
        UsageError: The settings are impossible.
    """
    model, tokenizer = load_policy(config.model)
    check_length(config.max_length, model)
    make_env = functools.partial(make, config.env, **config.env_kwargs)
    make_env().close()
    if rewritten := ChatTokens(tokenizer, config.template_options).rewrites_history():
        print(f"note: the chat template rewrites history, the rollouts here do not: {rewritten}", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        judge: Judge | None = None
        if config.judge != "none":
            judge = load_judge(config.judge, sees_reference=config.judge_sees_reference)
        if isinstance(judge, contextlib.AbstractContextManager):
            stack.enter_context(judge)
        engine = make_engine(config, model)
        if engine is not None:
            stack.callback(engine.close)
        table = stack.enter_context(TrainingTable(config))
        trainer = AWPOTrainer(
            model,
            config,
            make_env,
            processing_class=tokenizer,
            judge=judge,
            engine=engine,
            callbacks=[table.on_step],
            estimator=estimator,
            on_episode=table.on_episode,
        )
        trainer.train()
    return trainer.save()


def load_policy(name: str, dtype: str = "float32") -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer.

    Args:
        name: A checkpoint folder, a run folder (for its newest checkpoint), a hub name, or ``base``, which ships.
        dtype: Of the weights; ``auto`` is what the checkpoint holds.

    Raises:
        UsageError: There is no such model.
    """
    logging.disable_progress_bar()  # a bar for loading a few files hides the bars that matter
    path = find_policy(name)
    with _explained(name):
        tokenizer = AutoTokenizer.from_pretrained(path)
        options = {"dtype": dtype, "attn_implementation": "sdpa"}
        if has_adapters(path):
            from peft import AutoPeftModelForCausalLM

            # Merged, so that whoever trains on trains on what was learnt, with adapters of its own or without.
            model = AutoPeftModelForCausalLM.from_pretrained(path, **options).merge_and_unload().requires_grad_(True)
        else:
            model = AutoModelForCausalLM.from_pretrained(path, **options)
    return model, tokenizer


def load_model_config(name: str) -> PreTrainedConfig:
    """Load a model's configuration without its weights; `name` and errors are those of `load_policy`."""
    path = find_policy(name)
    with _explained(name):
        if has_adapters(path):
            from peft import PeftConfig

            path = PeftConfig.from_pretrained(path).base_model_name_or_path
        return AutoConfig.from_pretrained(path)


def has_adapters(path: str) -> bool:
    """Whether a folder holds LoRA adapters of a model instead of the model.

    Raises:
        UsageError: It does, and peft is not installed.
    """
    if not (Path(path) / "adapter_config.json").is_file():
        return False
    if find_spec("peft") is None:
        raise UsageError(f"{path!r} holds adapters, and peft is not installed; run pip install 'awpo[peft]'")
    return True


def find_policy(name: str) -> str:
    """Return the folder or the hub name that `name` stands for; `name` and errors are those of `load_policy`."""
    path = str(resources.files("awpo_agent.base_model")) if name == "base" else name
    if (Path(path) / "checkpoints").is_dir():
        path = str(newest_checkpoint(Path(path) / "checkpoints"))
    # A hub name has one slash at most; nobody wants a path that is mistyped looked up there.
    is_path = path.count("/") > 1 or path.startswith((".", "/", "~")) or ("/" in path and Path(path).parent.is_dir())
    if is_path and not Path(path).is_dir():
        raise UsageError(f"model folder {path!r} does not exist; expected a Hugging Face checkpoint folder or 'base'")
    return path


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"model {name!r} cannot be loaded, from a folder or from the hub; expected a checkpoint folder, "
            f"a hub name or 'base': {reason}"
        ) from None


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))

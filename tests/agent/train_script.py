"""Run by test_trainer.py in processes of its own: train the model of a folder on an environment of conftest.py."""

import json
import os
import sys
from pathlib import Path

import torch
from conftest import (  # the caller puts this folder on the path
    FailingEnv,
    FairJudge,
    LostJudge,
    UnevenEnv,
    VerdictEnv,
    VerdictJudge,
)

from awpo_agent.config import AWPOConfig
from awpo_agent.train import load_policy
from awpo_agent.trainer import AWPOTrainer

if __name__ == "__main__":
    folder, started, settings = sys.argv[1:]
    model, tokenizer = load_policy(folder)
    env, judge = (UnevenEnv if "UNEVEN" in os.environ else VerdictEnv), VerdictJudge
    if "FAILING" in os.environ:
        env, judge = FailingEnv, FairJudge
    if "LOST" in os.environ:
        judge = LostJudge
    trainer = AWPOTrainer(
        model.double(),  # so that the order of sums does not show
        AWPOConfig(**json.loads(settings)),
        env,
        processing_class=tokenizer,
        judge=judge(),
        callbacks=[lambda step, metrics: Path(started).write_text(str(step))],
    )
    trainer.train()
    torch.save(trainer.policy.state_dict(), trainer.folder / f"weights-{trainer.accelerator.process_index}.pt")

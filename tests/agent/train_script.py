"""What training_runs.py starts in processes of its own: a model trains in a world of training_world.py."""

import json
import os
import sys
from pathlib import Path

import torch
from sharding import ReplicaEngine, shard_on_cpu
from training_world import (  # the caller puts this folder on the path
    FailingEnv,
    FairJudge,
    LostJudge,
    StuckEngine,
    UnevenEnv,
    VerdictEnv,
    VerdictJudge,
)

from awpo_agent.config import AWPOConfig
from awpo_agent.processes import shares_weights
from awpo_agent.train import load_policy
from awpo_agent.trainer import AWPOTrainer

if __name__ == "__main__":
    folder, started, settings = sys.argv[1:]
    config = AWPOConfig(**json.loads(settings))
    model, tokenizer = load_policy(folder)
    if not config.bf16:
        model = model.double()  # so that the order of sums does not show
    env, judge = (UnevenEnv if "UNEVEN" in os.environ else VerdictEnv), VerdictJudge
    if "FAILING" in os.environ:
        env, judge = FailingEnv, FairJudge
    if "LOST" in os.environ:
        judge = LostJudge
    if "SHARDED" in os.environ:
        shard_on_cpu(os.environ["SHARDED"])
    engine = ReplicaEngine(model, config.max_length) if "REPLICA" in os.environ else None
    if os.environ.get("STUCK") == os.environ.get("RANK", "none"):
        engine = StuckEngine(model)
    trainer = AWPOTrainer(
        model,
        config,
        env,
        processing_class=tokenizer,
        judge=judge(),
        engine=engine,
        callbacks=[lambda step, metrics: Path(started).write_text(str(step))],
    )
    trainer.train()
    if not shares_weights(trainer.accelerator):
        torch.save(trainer.policy.state_dict(), trainer.folder / f"weights-{trainer.accelerator.process_index}.pt")
    trainer.accelerator.state.destroy_process_group()

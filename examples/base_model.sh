#!/usr/bin/env bash
# Makes the model that ships, from demonstrations by the retail generator's reference solutions. Run from the repository
# root after `make setup`; about 12 minutes on two idle cores. The result replaces awpo_agent/base_model/ when OUT says so:
#   OUT=awpo_agent/base_model bash examples/base_model.sh
set -euo pipefail
AWPO=${AWPO:-.venv/bin/awpo}
WORK=${WORK:-runs/base_model}
OUT=${OUT:-$WORK/final}
mkdir -p "$WORK"

# 1. The language of the task, and copying identifiers.
"$AWPO" env export awpo/Retail-v0 --preset quickstart --split train --episodes 14000 --seed 11 \
  --out "$WORK/demonstrations.jsonl"
"$AWPO" sft --config examples/configs/base_flawless.yaml --data "[$WORK/demonstrations.jsonl]" \
  --output_dir "$WORK/flawless"
# 2. Imitating careless demonstrators, so that there is something left to learn from rewards.
"$AWPO" env export awpo/Retail-v0 --preset quickstart --split train --episodes 4000 --seed 5 --mistake-rate 0.7 \
  --out "$WORK/mistakes.jsonl"
"$AWPO" sft --config examples/configs/base_mistakes.yaml --data "[$WORK/mistakes.jsonl]" --model "$WORK/flawless" \
  --output_dir "$WORK/final"

if [ "$OUT" != "$WORK/final" ]; then
  cp "$WORK"/final/{model.safetensors,config.json,generation_config.json} "$OUT"/
  cp "$WORK"/final/{tokenizer.json,tokenizer_config.json,chat_template.jinja} "$OUT"/
fi

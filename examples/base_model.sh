#!/usr/bin/env bash
# Makes the model that ships: demonstrations by the retail generator's oracle, first flawless, then with mistakes.
# Run from the repository root after `make setup`; about 20 minutes on two cores. The result replaces
# awpo_agent/base_model/ when OUT says so:  OUT=awpo_agent/base_model bash examples/base_model.sh
set -euo pipefail
AWPO=${AWPO:-.venv/bin/awpo}
WORK=${WORK:-runs/base_model}
OUT=${OUT:-$WORK/final}
mkdir -p "$WORK"

"$AWPO" env export awpo/Retail-v0 --preset quickstart --split train --episodes 12000 --seed 0 --out "$WORK/flawless.jsonl"
"$AWPO" env export awpo/Retail-v0 --preset quickstart --split train --episodes 4000 --seed 5 --mistake-rate 0.5 \
  --out "$WORK/mistakes.jsonl"

# 1. Learn the language of the task and to copy identifiers.
"$AWPO" sft --config examples/configs/base_flawless.yaml --data "[$WORK/flawless.jsonl]" --output_dir "$WORK/flawless"
# 2. Go on until the order the user means is found.
"$AWPO" sft --config examples/configs/base_flawless_more.yaml --data "[$WORK/flawless.jsonl]" --model "$WORK/flawless" \
  --output_dir "$WORK/flawless_more"
# 3. Imitate careless demonstrators, so that there is something left to learn from rewards.
"$AWPO" sft --config examples/configs/base_mistakes.yaml --data "[$WORK/mistakes.jsonl]" --model "$WORK/flawless_more" \
  --output_dir "$WORK/final"

if [ "$OUT" != "$WORK/final" ]; then
  cp "$WORK"/final/{model.safetensors,config.json,generation_config.json} "$OUT"/
  cp "$WORK"/final/{tokenizer.json,tokenizer_config.json,chat_template.jinja} "$OUT"/
fi

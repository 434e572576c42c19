"""The base model that ships: its size, and that its recipe's data are still what it was trained on."""

import hashlib
from pathlib import Path

import awpo_agent.base_model
from awpo_agent.cli import main
from awpo_agent.train import load_policy

FOLDER = Path(awpo_agent.base_model.__file__).parent
DIGESTS = {
    ("11", "0"): "bd6d6f0ec1598afb",
    ("5", "0.7"): "ba77712bd6febabb",
}


def test_it_is_small():
    model, tokenizer = load_policy("base")
    assert sum(weight.numel() for weight in model.parameters()) == 766_400 < 3_000_000
    assert len(tokenizer) == 987
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 8_000_000


def test_its_recipe_has_the_data_it_was_trained_on(tmp_path):
    """Red means: run examples/base_model.sh again and ship what comes out, with its scores."""
    digests = {}
    for seed, rate in DIGESTS:
        out = tmp_path / "demonstrations.jsonl"
        words = ("--preset", "quickstart", "--episodes", "200", "--seed", seed, "--mistake-rate", rate)
        assert main(["env", "export", "awpo/Retail-v0", *words, "--out", str(out)]) == 0
        digests[seed, rate] = hashlib.sha256(out.read_bytes()).hexdigest()[:16]
    assert digests == DIGESTS

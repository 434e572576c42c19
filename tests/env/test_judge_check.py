"""The calibration set, the figures a judge gets on it, and the command that prints them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from awpo_agent.cli import main
from awpo_env.errors import UsageError
from awpo_env.judges import calibration_set
from awpo_env.judges.calibration import (
    KINDS,
    _pairwise,
    _spearman,
    load_episodes,
    measure,
    shortcomings,
)
from awpo_env.judges.loading import load_judge
from awpo_env.judges.rubric import RubricJudge
from awpo_env.judges.scripted import ScriptedJudge
from awpo_env.types import Score, Transcript

EPISODES = load_episodes()
LABELS = {entry.id: entry.label for entry in EPISODES}


def test_the_set_is_what_the_page_says():
    assert Counter(entry.kind for entry in EPISODES) == {"good": 18, "subtle": 18, "degenerate": 12, "hostile": 12}
    assert len({entry.id for entry in EPISODES}) == 60
    for entry in EPISODES:
        low, high = {"good": (1, 1), "subtle": (0.2, 0.7), "degenerate": (0, 0.1), "hostile": (0, 0.5)}[entry.kind]
        assert low <= entry.label <= high, entry.id
        assert entry.why and entry.transcript.task.state is None


def test_a_twin_differs_in_nothing_but_what_it_says_to_the_judge():
    by_id = {entry.id: entry for entry in EPISODES}
    for entry in EPISODES:
        assert (entry.twin is not None) == (entry.kind == "hostile")
        if entry.twin is None:
            continue
        twin = by_id[entry.twin]
        assert twin.kind in ("subtle", "degenerate") and twin.label == entry.label
        changed = [
            (before, after)
            for before, after in zip(twin.transcript.messages, entry.transcript.messages, strict=True)
            if before != after
        ]
        ((before, after),) = changed
        ((key, text),) = [(key, text) for key, text in after.items() if text != before.get(key)]
        assert text.startswith(before.get(key, "")) and key in ("content", "reasoning_content")


def test_the_set_is_made_by_its_script():
    made = calibration_set.make()
    assert made == calibration_set.make(), "equal seeds, equal episodes"
    shipped = [(entry.id, entry.kind, entry.label, entry.twin) for entry in EPISODES]
    assert [(e["id"], e["kind"], e["label"], e.get("twin")) for e in made["episodes"]] == shipped, (
        "run `python -m awpo_env.judges.calibration_set`"
    )


def test_rank_correlation_and_pairs_are_what_one_gets_by_hand():
    labels, values = np.array([0.0, 0.5, 0.5, 1.0]), np.array([0.1, 0.4, 0.2, 0.2])
    # Ranks of the labels 0, 1.5, 1.5, 3 and of the values 0, 3, 1.5, 1.5; both have mean 1.5 and sum of squares 4.5.
    assert _spearman(labels, values) == pytest.approx((2.25 + 0 + 0 + 0) / 4.5)
    # Pairs 0-1, 0-2, 0-3 right; 1-2 has equal labels; 1-3 wrong; 2-3 a tie.
    assert _pairwise(labels, values) == pytest.approx(3.5 / 5)
    assert _spearman(labels, np.full(4, 0.3)) is None
    assert _pairwise(np.array([0.1, 0.2]), np.array([0.1, 0.2])) is None


def by_label(change=lambda entry, value: value):
    """A judge that gives every episode its label, but for `change`; padded episodes come as ``<id>+``."""
    texts = {json.dumps(entry.transcript.messages): entry for entry in EPISODES}

    def answer(transcript: Transcript) -> Score | float:
        messages = json.dumps(transcript.messages)
        short = messages.replace(" Let me think about this carefully and go through it step by step once more.", "")
        return change(replace(texts[short], id=texts[short].id + "+" * (short != messages)), texts[short].label)

    return ScriptedJudge(answer)


def test_a_perfect_judge_has_perfect_figures():
    report = measure(by_label(), by_label(), EPISODES)
    assert (report.missing, report.repeat_error, report.injection_gain, report.length_gain) == (0, 0, 0, 0)
    assert (report.spearman, report.pairwise, report.injection_resistance) == (pytest.approx(1), 1, 1)
    assert report.mean_by_kind["good"] == 1.0
    assert shortcomings(report) == []


@pytest.mark.parametrize(
    ("change", "figures"),
    [
        (lambda entry, value: 1.0 if entry.kind == "hostile" else value, {"injection_resistance", "spearman"}),
        (lambda entry, value: min(1.0, value + 0.3) if entry.id.endswith("+") else value, {"length_gain"}),
        (lambda entry, value: 1.0 - value, {"spearman", "pairwise"}),
        (lambda entry, value: 0.5, {"spearman", "pairwise"}),
        (lambda entry, value: Score.missing("no") if entry.kind == "degenerate" else value, {"missing"}),
    ],
    ids=["obeys orders", "likes length", "upside down", "says the same of all", "has nothing to say"],
)
def test_each_weakness_shows_in_its_own_figure(change, figures):
    report = measure(by_label(change), by_label(change), EPISODES)
    assert set(shortcomings(report)) == figures


def test_a_judge_that_changes_its_mind_is_not_repeatable():
    report = measure(by_label(), by_label(lambda entry, value: max(0.0, value - 0.1)), EPISODES)
    assert shortcomings(report) == ["repeat_error"]
    assert 0.07 < report.repeat_error <= 0.1


def test_nothing_but_missing_scores_gives_no_figure_and_its_reason():
    judge = ScriptedJudge(lambda transcript: Score.missing("no server"))
    report = measure(judge, judge, EPISODES)
    assert report.missing == 1.0 and report.reasons == {"no server": 60}
    assert (report.spearman, report.pairwise, report.repeat_error, report.length_gain) == (None,) * 4
    assert all(report.mean_by_kind[kind] is None for kind in KINDS)


def test_the_rubric_gives_orders_to_the_judge_nothing():
    scores = dict(zip(LABELS, RubricJudge().score([entry.transcript for entry in EPISODES]), strict=True))
    for entry in EPISODES:
        if entry.twin is not None:
            assert scores[entry.id].value <= scores[entry.twin].value + 1e-9, entry.id


def test_the_command_prints_the_rubrics_figures(capsys):
    assert main(["judge", "check", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["out_of_bounds"] == [] and figures["requests"] == 0
    assert main(["judge", "check"]) == 0
    table = capsys.readouterr().out
    assert "all within bounds" in table and f"{figures['spearman']:.3f}" in table


def test_the_command_judges_a_judge_model(serve, tmp_path, capsys):
    server = serve()
    config = tmp_path / "judge.yaml"
    config.write_text(f"{{model: dice, base_url: '{server.url}', cache_dir: '{tmp_path}', prompt_price: 1.0}}")
    for requests in (132, 0):  # 60 episodes twice, 12 of them padded; then everything is on disk
        assert main(["judge", "check", "--judge", str(config), "--json"]) == 1
        figures = json.loads(capsys.readouterr().out)
        assert figures["requests"] == requests
        assert figures["cache_hits"] == 132 - requests
        assert "spearman" in figures["out_of_bounds"], "its marks mean nothing"
        assert figures["repeat_error"] == 0
    assert main(["judge", "check", "--judge", str(config)]) == 1
    assert "out of bounds: spearman" in capsys.readouterr().out


def test_a_judge_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown judge 'rubrik'"):
        load_judge("rubrik")
    assert load_judge("rubric", sees_reference=False).sees_reference is False

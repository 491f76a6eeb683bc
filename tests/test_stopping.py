"""Conditions that end a run: how they are read, when they are met, and what a run that ends by one is."""

import json
import math

import pytest

from editbench import single_run, stopping
from editbench.config import StreamConfig
from editbench.editing_loop import EditingLoop
from editbench.results.leaderboard import group, read_row
from editbench.results.run_folder import read_run
from editbench.results.table_layout import best_row, layout
from editbench.stopping import Collapse, Condition, StopRule
from tests.small_runs import overrides_of
from tests.test_editing_loop import comparable, lines, make, tiny_folder  # noqa: F401

HEADLINE = {"reliability": "rewrite.exact_match"}


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("perplexity_ratio > 100", Condition("perplexity_ratio", ">", 100.0)),
        (" locality<=5e-2", Condition("locality", "<=", 0.05)),
        ("weight_change>=2", Condition("weight_change", ">=", 2.0)),
        ("nonfinite", Condition("nonfinite")),
    ],
)
def test_conditions(text, condition):
    assert Condition.parse(text) == condition
    assert Condition.parse(str(condition)) == condition


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("perplexity_ratio", "is no condition; it must be 'nonfinite', or one of perplexity_ratio, "),
        ("perplexity_ratio > 1 and 1", "is no condition"),
        ("perplexity_ratio == 1", "is no condition"),
        ("perplexity_ratio > -1", "is no condition"),
        ("nonfinite > 1", "quantity in stream.stop_when 'nonfinite'"),
        ("__import__('os')", "is no condition"),
        ("perplexity_rato > 1", "perplexity_ratio"),
    ],
)
def test_what_is_no_condition(text, message):
    with pytest.raises(ValueError, match=message):
        StreamConfig(stop_when=text, evaluate_at=[1])


def test_a_condition_needs_a_place_to_be_looked_at():
    with pytest.raises(ValueError, match="add one, as in stream.evaluate_at=every:10"):
        StreamConfig(stop_when=["nonfinite", "locality < 0.1"])
    assert StreamConfig(stop_when="nonfinite").stop_when == ("nonfinite",)
    assert StreamConfig(stop_when=None).stop_when == ()


def texts(stage, edits, perplexity):
    return {"stage": stage, "edits": edits, "of": "perplexity.plain", "scores": {"perplexity": perplexity}}


def scored(stage, edits, value, nll=1.0):
    probes = [{"target": "x", "nll": nll}, {"target": None, "nll": None}]
    scores = {"rewrite.exact_match": value}
    return {"stage": stage, "edits": edits, "status": "scored", "scores": scores, "probes": probes}


def test_a_ratio_is_to_the_unedited_model_and_the_bracket_begins_behind_the_last_sound_point():
    rule = StopRule(["perplexity_ratio > 3"], HEADLINE)
    assert rule.collapse([texts("before", 0, 2.0), scored("immediate", 1, 1.0)]) is None
    assert rule.collapse([texts("interim", 10, 6.0)]) is None
    assert rule.collapse([scored("immediate", 11, 1.0)]) is None
    assert rule.collapse([texts("final", 11, 99.0)]) is None
    assert rule.collapse([texts("interim", 20, 6.1)]) == Collapse(20, 11, "perplexity_ratio > 3")


def test_a_sample_of_texts_is_compared_with_itself():
    rule, sample = StopRule(["perplexity_ratio > 3"], HEADLINE), {"of": "perplexity.plain_sample"}
    assert rule.collapse([texts("before", 0, 2.0), {**texts("before", 0, 4.0), **sample}]) is None
    assert rule.collapse([{**texts("interim", 1, 11.0), **sample}]) is None
    assert rule.collapse([{**texts("interim", 2, 13.0), **sample}]) == Collapse(2, 2, "perplexity_ratio > 3")


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_no_number_meets_every_bound(value):
    for text in ("perplexity_ratio > 3", "perplexity_ratio < 1"):
        rule = StopRule([text], HEADLINE)
        assert rule.collapse([texts("before", 0, 2.0), texts("interim", 5, value)]) == Collapse(5, 1, text)
    rule = StopRule(["nonfinite"], HEADLINE)
    assert rule.collapse([texts("before", 0, 2.0), scored("immediate", 1, 1.0)]) is None
    assert rule.collapse([scored("immediate", 2, 0.0, nll=value)]) == Collapse(2, 2, "nonfinite")


def test_headline_measures_are_means_over_the_records_of_a_point():
    rule = StopRule(["reliability < 0.5", "locality < 0.5"], HEADLINE)
    assert rule.collapse([scored("immediate", 4, 0.0)]) is None
    assert rule.collapse([scored("interim", 4, 0.0), scored("interim", 4, 1.0)]) is None
    assert rule.collapse([scored("interim", 8, 0.0)]) == Collapse(8, 5, "reliability < 0.5")


# -- runs -----------------------------------------------------------------------------------------------------------

STOP = ["stream.evaluate_at=every:2", "stream.edits=6", "stream.sample=random"]


def weight_changes(folder):
    rows = lines(folder, "scores.jsonl")
    return {row["edits"]: row["scores"]["weight_change"] for row in rows if row.get("of") == "drift"}


@pytest.fixture
def run(make):  # noqa: F811
    def go(*more, results="results"):
        return single_run.run(make(*more, method=STOP, settings=overrides_of("rome"), results=results)).folder

    return go


def test_a_collapse_is_a_result_of_its_own(run, monkeypatch):
    whole = run(results="whole")
    changes = weight_changes(whole)
    assert changes[2] < changes[4]
    stop = f'stream.stop_when="weight_change > {(changes[2] + changes[4]) / 2:.6f}"'
    folder = run(stop)
    row = read_row(folder)
    assert read_run(folder)["status"] == row["status"] == "done"
    assert (row["collapsed_at"], row["collapsed_at_low"], row["collapsed_at_high"]) == (4, 3, 4)
    assert row["collapsed_by"].startswith("weight_change > ")
    assert (row["edits"], row["edits_made"], row["scored"]) == (6, 4, 4)
    assert [len(lines(one, "edits.jsonl")) for one in (folder, whole)] == [4, 6]
    early, late = (comparable(one)[0] for one in (folder, whole))
    so_far = [r for r in early if r["stage"] != "final"]
    assert so_far == late[: len(so_far)]

    # Stopped in the final scoring, it knows that it had collapsed.
    with monkeypatch.context() as patch:
        patch.setattr(EditingLoop, "_score_at_the_end", lambda self, last: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(stop, results="stopped")
    assert comparable(run(stop, results="stopped")) == comparable(folder)

    # In a table it is never the best, and says why.
    other = {**read_row(whole), "comparable_group": row["comparable_group"], "reliability": 0.5}
    best = {**row, "reliability": 1.0}
    assert best_row([best, other, {**other, "reliability": 0.4}], "reliability") is other
    table = layout([row, other])
    assert "collapsed at" in table.titles and "4 [3, 4]" in [cell.text for line in table.lines for cell in line]
    assert any("collapsed at edit 4 (weight_change > " in note for note in table.notes)


def test_a_run_that_goes_on_has_the_collapse_of_a_run_from_the_start(make, monkeypatch):  # noqa: F811
    monkeypatch.setattr(stopping, "_not_finite", lambda row: row["stage"] == "interim")
    drawn = ["stream.sample=random", "stream.order=shuffled", "stream.stop_when=nonfinite"]

    def go(edits, *more, results="results"):
        given = [f"stream.edits={edits}", *drawn, *more]
        return single_run.run(make(*given, method=[], settings=overrides_of("rome"), results=results)).folder

    go(2)
    longer = go(4, "stream.evaluate_at=[2]")  # scores the last batch of the shorter one again, with all edits so far
    fresh = go(4, "stream.evaluate_at=[2]", "results.continue_from=never", results="fresh")
    infos = [json.loads((folder / "run.json").read_text()) for folder in (longer, fresh)]
    assert "continued" in infos[0]["provenance"] and comparable(longer) == comparable(fresh)
    collapses = [info["summary"]["collapsed"] for info in infos]
    assert collapses == [{"edits": 2, "low": 2, "condition": "nonfinite"}] * 2


def test_over_seeds_a_collapse_has_an_interval_of_those_that_did(run):
    row = read_row(run())
    seeds = [
        {**row, "seed": seed, "run": f"run {seed}", "content_hash": str(seed), "final_rows": str(seed)}
        for seed in range(3)
    ]
    for one, at in zip(seeds, (100, 200, None), strict=True):
        one |= dict.fromkeys(("collapsed_at", "collapsed_at_low", "collapsed_at_high"), at)
        one["collapsed_by"] = at and "nonfinite"
    (merged,) = group(seeds)
    assert merged["collapsed_at"] == 150 and merged["collapsed_at_low"] < 100 < 200 < merged["collapsed_at_high"]
    assert json.loads(merged["missing"])["collapsed_at"] == 1
    assert any("collapsed in 2 of 3 seeds (nonfinite)" in note for note in layout([merged]).notes)

"""Averages, intervals and the score, against hand-computed values and a plain loop."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editbench.json_lines import decode, encode
from editbench.results import ResultsError
from editbench.results.intervals import DRAWS, drawn_means
from editbench.results.summary import harmonic_mean, summarise

HEADLINE = {
    "reliability": "rewrite.exact_match",
    "generality": "paraphrase.exact_match",
    "locality": "locality.agreement",
}


def row(index: int, reliability=1.0, generality=0.5, locality=0.25, **changes):
    scores = {"rewrite.exact_match": reliability, "paraphrase.exact_match": generality, "locality.agreement": locality}
    return {
        "stage": "final",
        "edits": 4,
        "batch": 3,
        "record": f"r{index}",
        "position": index,
        "status": "scored",
        "scores": {name: value for name, value in scores.items() if value is not ...},
    } | changes


def plain_means(values, seed, extreme):
    """The oracle: one set of weights at a time, the first that of the record more, averaging what is there."""
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(DRAWS):
        weights = [rng.standard_exponential() for _ in range(len(values) + 1)]
        pairs = [(weights[0], extreme)] + [
            pair for pair in zip(weights[1:], values, strict=True) if not math.isnan(pair[1])
        ]
        means.append(sum(weight * value for weight, value in pairs) / sum(weight for weight, _ in pairs))
    return np.array(means)


def test_the_score_is_the_harmonic_mean_of_the_headline_means():
    final = summarise([row(0), row(1, 1.0, 0.5, 0.75)], HEADLINE)["final"]
    assert {kind: measure["mean"] for kind, measure in final["headline"].items()} == {
        "reliability": 1.0,
        "generality": 0.5,
        "locality": 0.5,
    }
    assert final["score"] == pytest.approx(3 / (1 / 1.0 + 1 / 0.5 + 1 / 0.5)) == pytest.approx(0.6)
    assert final["score_arithmetic"] == pytest.approx(2 / 3)
    assert final["score_n"] == 2
    locality = final["headline"]["locality"]
    assert (locality["mean"], locality["n"], locality["nonfinite"]) == (0.5, 2, 0)
    assert 0 < final["score_low"] < 0.6 < final["score_high"] < 1


@pytest.mark.parametrize(
    ("means", "expected"), [([1, 1, 1], 1), ([0.9, 0.6, 0.3], 54 / 110), ([0.9, 0.0, 0.3], 0), ([0, 0, 0], 0)]
)
def test_harmonic_mean(means, expected):
    assert float(harmonic_mean(np.array(means, dtype=float))) == pytest.approx(expected)


def test_a_negative_headline_mean_is_refused():
    with pytest.raises(ResultsError, match="negative"):
        summarise([row(0, -1.0)], HEADLINE)


@pytest.mark.parametrize("within", [(0.0, 1.0), (-1.0, 1.0)])
def test_weighted_means_equal_a_plain_loop(within, monkeypatch):
    rng = np.random.default_rng(7)
    values = rng.random((11, 3))
    for missing in (False, True):
        if missing:
            values[rng.random((11, 3)) < 0.3] = np.nan
            values[:, 2] = np.nan
            values[5, 2] = 0.5  # in a single record
        for block in (2**22, 100):
            monkeypatch.setattr("editbench.results.intervals._BLOCK", block)
            for drawn, extreme in zip(drawn_means(values, 11, within), within, strict=True):
                expected = [plain_means(column, 11, extreme) for column in values.T]
                np.testing.assert_allclose(drawn, expected, rtol=1e-12)


def test_intervals_are_percentiles_and_depend_on_the_seed_only():
    values = np.random.default_rng(3).random(50)
    rows = [row(index, value) for index, value in enumerate(values)]
    measure = summarise(rows, HEADLINE, seed=5)["final"]["measures"]["rewrite.exact_match"]
    low, high = (np.percentile(plain_means(values, 5, end), at) for end, at in ((0, 2.5), (1, 97.5)))
    assert (measure["low"], measure["high"]) == (pytest.approx(low), pytest.approx(high))
    assert measure["low"] < measure["mean"] < measure["high"]
    assert summarise(rows, HEADLINE, seed=5) == summarise(rows, HEADLINE, seed=5)
    assert summarise(rows, HEADLINE, seed=6)["final"]["measures"]["rewrite.exact_match"] != measure


def test_records_that_are_all_alike_leave_a_width():
    final = summarise([row(index, 1.0, 1.0, 0.0) for index in range(50)], HEADLINE)["final"]
    right, wrong = final["headline"]["reliability"], final["headline"]["locality"]
    least = 0.025 ** (1 / 50)  # Clopper and Pearson
    assert right["high"] == 1 and right["low"] == pytest.approx(least, abs=0.01)
    assert wrong["low"] == 0 and wrong["high"] == pytest.approx(1 - least, abs=0.01)
    perfect = summarise([row(index, 1.0, 1.0, 1.0) for index in range(50)], HEADLINE)["final"]
    assert perfect["score"] == perfect["score_high"] == 1 and 0.8 < perfect["score_low"] < 0.95


def test_a_measure_without_a_range_has_students_interval_and_none_where_all_are_alike():
    scores = [{"free_text.ngram_entropy": entropy, "edit.same": 7.0} for entropy in (5.0, 6.0, 7.0)]
    measures = summarise([row(i, scores=one) for i, one in enumerate(scores)], {})["final"]["measures"]
    half = 4.30265 / math.sqrt(3)
    entropy, same = measures["free_text.ngram_entropy"], measures["edit.same"]
    assert (entropy["low"], entropy["high"]) == pytest.approx((6 - half, 6 + half), abs=1e-5)
    assert same == {"mean": 7.0, "low": None, "high": None, "n": 3, "nonfinite": 0}


def test_a_range_is_known_by_measure_or_scorer_and_holds():
    rows = [row(index, scores={"rewrite.routing": 1.0, "edit.gain": 1.0}) for index in range(9)]
    summary = summarise(rows, {}, ranges={"routing": (0, 1), "edit.gain": (-1, 1)})
    routing, gain = (summary["final"]["measures"][name] for name in ("rewrite.routing", "edit.gain"))
    assert routing["high"] == gain["high"] == 1 and 0.5 < routing["low"] < 0.8 and 0 < gain["low"] < 0.6
    with pytest.raises(ResultsError, match="rewrite.routing is 1.5 in a record, which is not between 0 and 1"):
        summarise([row(0, scores={"rewrite.routing": 1.5})], {}, ranges={"routing": (0, 1)})


def test_ten_thousand_records_of_forty_measures_are_summarised_fast():
    names = [f"kind{kind}.agreement" for kind in range(40)]
    values = np.random.default_rng(0).random((10_000, 40)).round(1).tolist()
    rows = [row(i, scores=dict(zip(names, one, strict=True))) for i, one in enumerate(values)]
    start = time.process_time()
    drawn_means(np.array(values), 0)
    elapsed = time.process_time() - start
    summarise(rows, {}, ranges={"agreement": (0, 1)})
    assert elapsed < 2 and time.process_time() - start < 4


def test_records_without_a_score_are_counted_and_in_no_average():
    rows = [
        row(0, 1.0, left_out={"locality": 2}),
        row(1, 0.0, left_out={"locality": 1, "paraphrase": 1}),
        row(2, status="unsupported", reason="no subject", scores={}),
        row(3, status="failed", reason="singular matrix", scores={"rewrite.exact_match": 0.0}),
        row(4, status="skipped", scores={}, left_out=None),
    ]
    final = summarise(rows, HEADLINE)["final"]
    assert final["records"] == {"scored": 2, "unsupported": 1, "failed": 1, "skipped": 1}
    assert final["left_out"] == {"locality": 3, "paraphrase": 1}
    assert final["headline"]["reliability"]["mean"] == 0.5 and final["headline"]["reliability"]["n"] == 2


def test_an_average_over_nothing_is_none():
    final = summarise([row(0, status="unsupported", scores={})], HEADLINE)["final"]
    nothing = {"mean": None, "low": None, "high": None, "n": 0, "nonfinite": 0}
    assert final["headline"] == dict.fromkeys(HEADLINE, nothing)
    assert (final["score"], final["score_n"], final["score_low"], final["score_arithmetic"]) == (None, 0, None, None)
    assert final["measures"] == {}


def test_a_measure_that_only_some_records_have_is_averaged_over_those():
    final = summarise([row(0, locality=...), row(1, locality=0.8), row(2, locality=0.4)], HEADLINE)["final"]
    assert final["headline"]["locality"]["n"] == 2 and final["headline"]["locality"]["mean"] == pytest.approx(0.6)
    assert final["headline"]["reliability"]["n"] == 3 and final["score_n"] == 2


@pytest.mark.parametrize("stored", [False, True])
def test_values_that_are_not_finite_are_counted_and_in_no_average(stored):
    rows = [row(0, math.nan), row(1, math.inf), row(2, 0.5), row(3, None)]
    texts = {
        "stage": "final",
        "edits": 4,
        "batch": 3,
        "of": "perplexity.plain",
        "scores": {"perplexity": math.inf, "texts": 2},
    }
    rows = [decode(encode(item).encode()) if stored else item for item in [*rows, texts]]
    final = summarise(rows, HEADLINE)["final"]
    assert final["headline"]["reliability"] == {
        **{"mean": 0.5, "low": pytest.approx(0.0125, abs=0.01), "high": pytest.approx(0.9875, abs=0.01)},
        **{"n": 1, "nonfinite": 2},
    }
    assert {k: v["mean"] for k, v in final["model"]["perplexity.plain"].items()} == {"perplexity": None, "texts": 2.0}
    json.dumps(final, allow_nan=False)


def test_moments_are_kept_apart_and_checkpoints_by_edit_count():
    rows = [row(0, 0.0, stage="before", edits=0, batch=-1)]
    rows += [row(index, 1.0, stage="immediate", edits=index + 1, batch=index) for index in range(3)]
    rows += [row(index, 0.5, stage="interim", edits=10) for index in range(2)]
    rows += [row(0, 0.75, stage="interim", edits=2)]
    summary = summarise(rows, HEADLINE)
    assert summary["final"] is None
    assert summary["before"]["edits"] == 0 and summary["before"]["headline"]["reliability"]["mean"] == 0.0
    assert summary["immediate"]["edits"] == 3 and summary["immediate"]["headline"]["reliability"]["n"] == 3
    assert [(part["edits"], part["headline"]["reliability"]["mean"]) for part in summary["interim"]] == [
        (2, 0.75),
        (10, 0.5),
    ]


def test_texts_are_not_averaged_and_the_last_count_stands():
    rows = [
        {
            "stage": "immediate",
            "edits": edits,
            "batch": edits,
            "of": "perplexity.plain",
            "scores": {"perplexity": float(edits)},
        }
        for edits in (2, 3, 1)
    ]
    assert summarise(rows, HEADLINE)["immediate"]["model"]["perplexity.plain"]["perplexity"]["mean"] == 3.0


def test_a_record_scored_twice_at_a_moment_is_an_error():
    summarise([row(0), row(0, position=1)], HEADLINE)  # edited twice in the stream
    with pytest.raises(ResultsError, match=r"record 'r0' \(position 0\) was scored more than once .*truncate_after"):
        summarise([row(0), row(0, batch=4)], HEADLINE)


def test_headlines_may_be_missing_but_not_unknown():
    final = summarise([row(0)], {"reliability": "rewrite.exact_match", "locality": "no.such"})["final"]
    assert final["headline"]["reliability"]["mean"] == 1.0
    assert final["headline"]["generality"]["mean"] is final["headline"]["locality"]["mean"] is final["score"] is None
    with pytest.raises(ResultsError, match="unknown headline"):
        summarise([row(0)], {"efficacy": "rewrite.exact_match"})


def test_no_rows_give_no_moments():
    summary = summarise([], HEADLINE)
    assert (summary["before"], summary["immediate"], summary["final"], summary["interim"]) == (None,) * 3 + ([],)


rates = st.floats(0, 1) | st.just(math.nan) | st.just(...)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(rates, rates, rates), min_size=1, max_size=6))
def test_intervals_hold_the_mean_and_nothing_is_nan(triples):
    final = summarise([row(index, *triple) for index, triple in enumerate(triples)], HEADLINE)["final"]
    json.dumps(final, allow_nan=False)
    for measure in final["measures"].values():
        assert (measure["mean"] is None) == (measure["n"] == 0)
        if measure["n"]:
            assert 0 <= measure["low"] <= measure["mean"] <= measure["high"] <= 1
            assert measure["low"] < measure["high"]
    if final["score"] is not None:
        means = [final["headline"][kind]["mean"] for kind in HEADLINE]
        assert min(means) - 1e-9 <= final["score"] <= final["score_arithmetic"] + 1e-9 <= max(means) + 2e-9

"""Curves and heat maps of hand-written rows."""

from __future__ import annotations

import json

import pytest

from editbench.results.curves import BINS, POINTS, VALUES, curves, heat_map, reduce_points
from tests.results.runs import HEADLINE, of_texts, texts


def scored(stage, edits, position, reliability, status="scored"):
    scores = {"rewrite.exact_match": reliability} if reliability is not None else {}
    return {"stage": stage, "edits": edits, "position": position, "status": status, "scores": scores}


def test_curves_are_running_means_and_checkpoint_means():
    rows = [
        texts("before", 0, 4.0),
        scored("immediate", 2, 0, 1.0),  # a batch of two
        scored("immediate", 2, 1, 0.0),
        scored("immediate", 3, 2, None),  # nothing to score
        scored("immediate", 4, 3, 1.0, "unsupported"),  # in no average
        scored("immediate", 5, 4, 1.0),
        scored("interim", 2, 0, 0.5),
        scored("interim", 5, 0, 0.9),
        scored("final", 5, 0, 0.25),  # as many edits as the last checkpoint: once is enough
        scored("final", 5, 1, 0.75),
        texts("final", 5, 6.0),
    ]
    made = curves(rows)
    assert made["immediate"] == {"edits": [2, 3, 5], "rewrite.exact_match": [0.5, 0.5, 0.66667]}
    assert made["interim"] == {
        **{"edits": [0, 2, 5], "plain.perplexity": [4.0, None, 6.0], "rewrite.exact_match": [None, 0.5, 0.5]}
    }


def test_curves_of_texts_and_ability_have_names_of_their_own():
    able = {"stage": "interim", "edits": 2, "batch": 1, "of": "ability.pocket", "scores": {"recall": 0.75}, "n": 4}
    rows = [
        of_texts("before", 0, "unrelated", {"questions": 100, "activation": 0.25}),
        of_texts("interim", 2, "unrelated", {"questions": 100, "activation": 0.5}),
        of_texts("final", 2, "drift", {"weight_change.w.0": 1e-07, "hidden_change": None}),
        of_texts("final", 2, "footprint", {"host": 12_345_678}),
        able,
    ]
    assert curves(rows)["interim"] == {
        **{"edits": [0, 2], "unrelated.activation": [0.25, 0.5], "drift.weight_change.w.0": [None, 1e-07]},
        **{"footprint.host": [None, 12_346_000.0], "ability.pocket.recall": [None, 0.75]},
    }


def test_a_long_curve_keeps_its_ends():
    made = curves([scored("immediate", n + 1, n, 1.0) for n in range(1000)])
    reduce_points([made])
    curve = made["immediate"]
    assert len(curve["edits"]) == len(curve["rewrite.exact_match"]) == POINTS
    assert curve["edits"][0] == 1 and curve["edits"][-1] == 1000


def test_many_curves_have_fewer_points_each():
    edits = [float(n) for n in range(1, 301)]
    many = [{"immediate": {"edits": edits, **{f"a.{m}": edits for m in range(40)}}, "interim": {"edits": []}}] * 20
    many = json.loads(json.dumps(many))
    reduce_points(many)
    lengths = {len(values) for one in many for values in one["immediate"].values()}
    assert len(lengths) == 1 and 40 < lengths.pop() <= VALUES / 20 / 41
    assert many[7]["immediate"]["edits"] == many[7]["immediate"]["a.3"]
    assert (many[0]["immediate"]["edits"][0], many[0]["immediate"]["edits"][-1]) == (1.0, 300.0)


def test_a_heat_map_without_checkpoints_has_two_lines():
    rows = [scored("immediate", n + 1, n, 1.0) for n in range(4)] + [scored("final", 4, n, n / 4) for n in range(4)]
    made = heat_map(rows, HEADLINE)
    assert made["by"] == "stage" and made["y"] == ["right after", "at the end"] and made["x"] == ["1", "2", "3", "4"]
    assert made["reliability"] == [[1.0] * 4, [0.0, 0.25, 0.5, 0.75]]
    assert made["generality"] == [[None] * 4] * 2
    assert heat_map([], HEADLINE) is None


def test_a_heat_map_with_checkpoints_is_by_age():
    rows = [scored("immediate", n + 1, n, 1.0) for n in range(4)]
    rows += [scored("interim", 2, n, 0.5) for n in range(2)] + [scored("final", 4, n, n / 4) for n in range(4)]
    made = heat_map(rows, HEADLINE)
    assert made["by"] == "age" and made["y"] == ["right after", "0–1", "2–3"]
    assert made["reliability"] == [[1.0] * 4, [0.5, 0.5, 0.5, 0.75], [0.0, 0.25, None, None]]
    assert made["n"] == [[1] * 4, [1] * 4, [1, 1, 0, 0]]


def test_the_bins_of_a_long_stream_hold_every_edit_once():
    made = heat_map([scored("final", 137, n, 1.0) for n in range(137)], HEADLINE)
    assert sum(made["n"][1]) == 137 and len(made["x"]) == 20
    widths = [int(label.split("–")[-1]) - int(label.split("–")[0]) + 1 for label in made["x"]]
    assert widths == made["n"][1] and made["x"][0].startswith("1–") and made["x"][-1].endswith("–137")


def test_a_cell_of_several_records_has_their_mean():
    rows = [scored("final", 2 * BINS, position, float(position)) for position in range(2 * BINS)]
    made = heat_map(rows, HEADLINE)
    assert made["n"][1] == [2] * BINS
    assert made["reliability"][1] == [2 * column + 0.5 for column in range(BINS)]


@pytest.mark.parametrize(("edits", "position", "last"), [(10, 2, "10"), (1, 5, "6")])
def test_the_axis_reaches_the_last_edit_and_the_last_position(edits, position, last):
    assert heat_map([scored("interim", edits, position, 1.0)], HEADLINE)["x"][-1] == last


def test_however_many_the_curves_both_ends_stay():
    curve = {"edits": list(range(1000)), "values": list(range(1000))}
    reduce_points([{"reliability": curve}], limit=0)
    assert curve["edits"] == [0, 999]

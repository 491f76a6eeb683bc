"""Numbers of tests of general ability: rows, summary, curves."""

import importlib.util
import math

import numpy as np
import pytest

from editbench.evaluation.general_ability import Ability
from editbench.results.curves import LiveCurves, curves
from editbench.results.run_folder import RunFolder
from editbench.results.summary import summarise
from editbench.tracking.observer import flat_summary

needs_lm_eval = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed")


def ability_row(stage, edits, recall, stderr=0.1):
    one = Ability("pocket", {"recall": recall}, {"recall": stderr}, 9)
    return {"stage": stage, "edits": edits, "batch": edits - 1, **one.row()}


def test_rows_are_strict_json_and_summarised(tmp_path):
    with RunFolder.create(tmp_path, "run", "") as store:
        store.append_scores([ability_row("before", 0, 0.5), ability_row("final", 4, math.nan, math.nan)])
        rows = store.scores()
        with pytest.raises(ValueError, match="n='many'"):
            store.append_scores([{**ability_row("final", 4, 1.0), "n": "many"}])
    assert rows[1]["scores"] == {"recall": None} and rows[1]["nonfinite"] == ["recall", "stderr.recall"]
    summary = summarise(rows, {})
    expected = {
        "mean": 0.5,
        "low": pytest.approx(0.2694, abs=1e-5),
        "high": pytest.approx(0.7306, abs=1e-5),
        "n": 9,
        "nonfinite": 0,
    }
    assert summary["before"]["model"] == {"ability.pocket": {"recall": expected}}
    nothing = {"mean": None, "low": None, "high": None, "n": 9, "nonfinite": 1}
    assert summary["final"]["model"] == {"ability.pocket": {"recall": nothing}}
    assert summary["final"]["measures"] == {}
    with pytest.raises(ValueError, match="ability.pocket .* more than once"):
        summarise([*rows, rows[1]], {})


@pytest.mark.parametrize(("share", "n"), [(1.0, 120), (0.0, 120), (1.0, 1)])
def test_items_that_are_all_alike_leave_a_standard_error_and_a_width(share, n):
    one = Ability.of_items("pocket", {"recall": [share] * n})
    error = np.std([0, 1, *[share] * n], ddof=1) / math.sqrt(n + 2)
    assert one.stderr["recall"] == pytest.approx(error) and error > 0
    row = {"stage": "final", "edits": 4, "batch": 3, **one.row()}
    measure = summarise([row], {})["final"]["model"]["ability.pocket"]["recall"]
    width = 1 - 0.025 ** (1 / n)  # Clopper and Pearson
    assert (measure["low"], measure["high"]) == pytest.approx((1 - width, 1.0) if share else (0.0, width), abs=1e-6)


@needs_lm_eval
def test_lm_evals_standard_error_of_0_is_none():
    from editbench.evaluation.general_ability.lm_eval import _ability

    result = {"acc,none": 1.0, "acc_stderr,none": 0.0, "mcc,none": 1.0, "mcc_stderr,none": 0.0, "bleu,none": 3.0,
              "bleu_stderr,none": 0.0, "f1,none": 88.0, "f1_stderr,none": 1.0}  # fmt: skip
    one = _ability("sst2", result, True, 100)
    assert one.ranges == {"acc": (0.0, 1.0), "mcc": (-1.0, 1.0)}  # this F1 is in per cent
    assert one.stderr["acc"] == pytest.approx(1 / 102) and 0.01 < one.stderr["mcc"] < 0.03
    assert one.stderr["bleu"] == 0.0 and one.stderr["f1"] == 1.0
    measures = summarise([{"stage": "final", "edits": 1, "batch": 0, **one.row()}], {})["final"]["model"][
        "ability.sst2"
    ]
    assert measures["acc"]["low"] == pytest.approx(0.025**0.01) and measures["bleu"]["low"] is None
    assert 86 < measures["f1"]["low"] < 88 < measures["f1"]["high"] < 90


def test_curves_of_report_and_trackers():
    rows = [ability_row("before", 0, 1.0), ability_row("interim", 2, 0.75), ability_row("interim", 4, 0.5)]
    rows += [ability_row("final", 4, 0.5)]
    drawn = curves(rows)["interim"]
    assert (drawn["edits"], drawn["ability.pocket.recall"]) == ([0, 2, 4], [1.0, 0.75, 0.5])
    points = LiveCurves({}).rows(rows)
    assert points == {edits: {"ability/pocket/recall": v} for edits, v in ((0, 1.0), (2, 0.75), (4, 0.5))}
    assert flat_summary(summarise(rows, {}), {})["final/ability/pocket/recall"] == 0.5

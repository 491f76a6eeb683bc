"""Scores and edits are compared as their tolerance says, and a sample follows from root and nonce alone."""

import math

import pytest
import torch

from editbench.submission.agreement import (
    MACHINE,
    OTHER_MACHINE,
    SAME_MACHINE,
    Scores,
    change_error,
    drawn,
    tolerance_of,
)


def row(**scores):
    return {"stage": "final", "record": "r", "status": "scored", "scores": scores}


@pytest.mark.parametrize(
    ("told", "found", "differing"),
    [
        (row(a=1.0, b=0.5), row(a=1.0, b=0.5), 0),
        (row(a=1.0, b=3.0), row(a=0.0, b=3.002), 1),
        (row(a=None), row(a=math.inf), 0),
        (row(a=None), row(a=1.0), 1),
        (row(a=1000.0), row(a=1000.5), 0),
        (row(a=1000.0), row(a=1002.0), 1),
        (row(a=1.0), row(b=1.0), 1),
        (row(a=1.0), {**row(a=1.0), "status": "failed"}, 1),
        (row(a=1.0), {**row(a=1.0), "against": "z"}, 1),
    ],
)
def test_scores_agree_within_the_tolerance(told, found, differing):
    scores = Scores(SAME_MACHINE)
    scores.add(told, found)
    assert scores.differing == differing and scores.agree == (differing == 0)
    assert bool(scores.reasons()) == (differing > 0)
    assert scores.report()["rows"] == 1


def test_on_another_machine_one_score_of_a_hundred_may_differ_but_no_status():
    scores = Scores(OTHER_MACHINE)
    for i in range(100):
        scores.add(row(a=1.0), row(a=float(i > 0)))
    assert scores.agree and scores.differing == 1 and scores.equal == 99 and scores.largest == 1.0
    scores.add(row(a=1.0), {**row(a=1.0), "status": "skipped"})
    assert not scores.agree and scores.reasons()[1] == "final row of 'r': another status"


def test_the_machine_is_the_same_if_all_its_facts_are():
    facts = dict.fromkeys(MACHINE, "x")
    assert tolerance_of(facts, {**facts, "commit": "y"}) == ("same", SAME_MACHINE)
    assert tolerance_of(facts, {**facts, "torch": "y"}) == ("other", OTHER_MACHINE)


def test_errors_of_changes():
    a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 4.5]])
    assert change_error({"w": a}, {"w": a.clone()}) == (0.0, pytest.approx(1.0))
    error, cosine = change_error({"w": a}, {"w": b})
    assert error == pytest.approx(0.1) and cosine == pytest.approx(27 / 5 / math.hypot(3, 4.5))
    assert change_error({"w": a}, {"w": -a}) == (2.0, pytest.approx(-1.0))
    assert change_error({"w": a}, {"v": a}) == change_error({"w": a}, {"w": a.T}) == (math.inf, 0.0)
    assert change_error({}, {}) == change_error({"w": 0 * a}, {"w": 0 * a}) == (0.0, 1.0)
    assert change_error({"w": a}, {"w": 0 * a}) == (math.inf, 0.0)


def test_a_sample_is_drawn_from_root_and_nonce():
    keys = [f"k{i}" for i in range(100)]
    one = drawn(keys, 10, "root", "nonce")
    assert one == sorted(set(one)) and len(one) == 10 and one == drawn(keys, 10, "root", "nonce")
    assert one != drawn(keys, 10, "root", "other") and one != drawn(keys, 10, "toor", "nonce")
    assert drawn(keys, 200, "root", "nonce") == list(range(100))
    assert set(one) <= set(drawn(keys, 20, "root", "nonce"))

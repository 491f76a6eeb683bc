"""The two sentences follow from the rows: who leads at the first and the last point, and who has collapsed."""

import pytest

from editbench.results.findings import findings


def points(**scores):
    """Points after 10 and 300 edits, with intervals of ± 0.05."""
    return [
        {"method": method, "edits": edits, "score": score, "score_low": score - 0.05, "score_high": score + 0.05}
        for method, of_method in scores.items()
        for edits, score in zip((10, 300), of_method, strict=False)
    ]


def test_who_leads_and_who_collapsed():
    leaders, collapsed = findings(
        points(unedited=(0.0, 0.0), rome=(0.97, 0.4), memit=(0.96, 0.1), nse=(0.99, 0.8), scen=(0.98, 0.98))
    )
    assert leaders == (
        "After 10 edits nse leads with a score of 0.99, and within its interval lie scen (0.98), rome (0.97) and memit "
        "(0.96); after 300 scen leads with a score of 0.98, next is nse (0.80)."
    )
    assert collapsed == (
        "memit (0.96 to 0.10) and rome (0.97 to 0.40) have collapsed to less than half of the score after 10 edits."
    )


def test_one_collapse_and_none():
    assert findings(points(rome=(0.9, 0.44)))[1] == (
        "rome (0.90 to 0.44) has collapsed to less than half of the score after 10 edits."
    )
    assert findings(points(rome=(0.9, 0.45), scen=(0.99, 0.98), finetune=(0.0, 0.02)))[1] == (
        "None has collapsed to less than half of its score after 10 edits, rome (0.90 to 0.45) fell most; finetune "
        "hardly edits at all."
    )
    assert findings(points(finetune=(0.0, 0.02), rome=(0.01, 0.0)))[1] == "finetune and rome hardly edit at all."


def test_who_is_level_to_two_digits_leads_together():
    assert findings(points(rome=(1.0, 0.6), memit=(0.9999, 0.604), nse=(0.94, 0.5)))[0] == (
        "After 10 edits rome and memit lead with a score of 1.00, next is nse (0.94); after 300 memit and rome lead "
        "with a score of 0.60, next is nse (0.50)."
    )


@pytest.mark.parametrize(
    ("given", "sentences"),
    [
        ([], []),
        (points(unedited=(0.0, 0.0)), []),
        ([{"method": "rome", "edits": 10, "score": None}], []),
        (points(rome=(0.5,)), ["After 10 edits rome leads with a score of 0.50."]),
        (points(rome=(0.5,), scen=(0.52,))[:2], None),
    ],
)
def test_little_to_say(given, sentences):
    assert sentences is None or findings(given) == sentences
    if sentences is None:
        assert findings(given) == [
            "After 10 edits scen leads with a score of 0.52, and within its interval lies rome (0.50)."
        ]


def test_another_measure_is_named():
    renamed = [
        {**point, "score": None, "reliability": point["score"], "reliability_low": point["score_low"]}
        for point in points(rome=(0.9, 0.8), nse=(0.8, 0.7))
    ]
    assert findings(renamed) == []
    assert findings(renamed, "reliability") == [
        "After 10 edits rome leads with a reliability of 0.90, next is nse (0.80); after 300 rome leads with a "
        "reliability of 0.80, next is nse (0.70).",
        "None has collapsed to less than half of its reliability after 10 edits, nse (0.80 to 0.70) fell most.",
    ]

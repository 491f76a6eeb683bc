"""Columns that are empty because of a setting say so."""

import json

from editbench.results.empty_columns import empty_columns


def row(headline=("reliability", "generality"), **facts):
    parts = {f"protocol.headline.{name}": f"{name[:3]}.exact_match" for name in headline}
    plain = {"status": "done", "dataset": "zsre", "protocol": "mine", "reliability": 0.5, "reliability_n": 4}
    return {**plain, "parts": json.dumps(parts), **facts}


def test_the_reason_is_the_setting():
    found = empty_columns([row(), row()], ["reliability", "generality", "locality", "perplexity_ratio", "score"])
    assert found == [
        "zsre, protocol mine: no generality, since no record has a gen question that was scored.",
        "zsre, protocol mine: no locality, since the protocol names no locality for this dataset (protocol.headline).",
        "zsre, protocol mine: no perplexity ratio, since there are no plain texts to score.",
        "zsre, protocol mine: no score, since there is no generality and no locality.",
    ]


def test_full_columns_and_runs_that_did_not_finish_are_silent():
    assert empty_columns([row(), row(status="failed", reliability=None)], ["reliability"]) == []
    assert empty_columns([row(perplexity_before=2.0)], ["perplexity_ratio"]) == []  # of a stage without texts

"""What is scored again: a sample of rows, and one that differs again among the rows beside it."""

import pytest

from editbench.submission import rescore as rescoring
from editbench.submission.agreement import SAME_MACHINE
from editbench.submission.claim import copy_of, read_claim
from editbench.submission.rebuilt import rebuild
from editbench.submission.rescore import rescore

PLAIN = "perplexity.plain"


@pytest.fixture
def rebuilt(claimed, places, tmp_path):
    return rebuild(
        read_claim(copy_of(claimed("finetune"), tmp_path / "run")), places, tmp_path / "cache", to_edit=False
    )


def test_a_sample_of_no_row_of_the_end_scores_the_model_there_all_the_same(rebuilt, tmp_path, monkeypatch):
    monkeypatch.setattr(
        rescoring, "drawn", lambda keys, *_: [i for i, key in enumerate(keys) if key.startswith("interim")][:1]
    )
    scores, same = rescore(rebuilt, tmp_path / "ledger", 1, "n", SAME_MACHINE)
    assert same and scores.agree and scores.rows == 1 + 3 and scores.equal == scores.scores
    assert rebuilt.lm.fingerprint == rebuilt.claim.provenance["model"]["hash"]


def test_the_model_at_the_end_is_scored_where_an_evaluation_point_is_there_too(claimed, places, tmp_path, monkeypatch):
    run = claimed("finetune", "stream.evaluate_at=[2,5]")
    parts = rebuild(read_claim(copy_of(run, tmp_path / "run")), places, tmp_path / "cache", to_edit=False)
    monkeypatch.setattr(rescoring, "drawn", lambda keys, *_: [next(i for i, key in enumerate(keys) if "|2|" in key)])
    told, compare = [], rescoring._compare
    monkeypatch.setattr(rescoring, "_compare", lambda *args: told.extend(args[1]) or compare(*args))
    scores, _ = rescore(parts, tmp_path / "ledger", 1, "n", SAME_MACHINE)
    assert scores.agree and {(row["stage"], row["of"]) for row in told} >= {("final", "drift"), ("before", PLAIN)}


def test_a_row_that_differs_is_scored_again_beside_its_neighbours(rebuilt, tmp_path, monkeypatch):
    from editbench.submission.rebuilt import Replay

    asked, score = [], Replay.score

    def off_alone(self, records, stage, edits, batch):
        rows = score(self, records, stage, edits, batch)
        asked.append(len(records))
        if len(records) == 1:  # as where a tie between tokens depends on the batch
            rows[0]["scores"] = {name: 0.25 for name in rows[0]["scores"]}
        return rows

    monkeypatch.setattr(Replay, "score", off_alone)
    monkeypatch.setattr(
        rescoring, "drawn", lambda keys, *_: [i for i, key in enumerate(keys) if key.startswith("interim")][:1]
    )
    scores, _ = rescore(rebuilt, tmp_path / "ledger", 1, "n", SAME_MACHINE)
    assert asked == [1, 2] and scores.agree

"""Batches are edited again from the state before them, whatever their order in the sample."""

import pytest

from editbench.submission import reedit as reediting
from editbench.submission.agreement import SAME_MACHINE
from editbench.submission.claim import CannotSay, copy_of, read_claim
from editbench.submission.rebuilt import Replay, rebuild
from editbench.submission.reedit import reedit


@pytest.fixture
def rebuilt(claimed, places, tmp_path):
    return rebuild(read_claim(copy_of(claimed("nse"), tmp_path / "run")), places, tmp_path / "cache", to_edit=True)


def test_a_batch_in_the_middle_alone(rebuilt, tmp_path, monkeypatch):
    monkeypatch.setattr(reediting, "drawn", lambda *_: [1])
    edits, scores = reedit(rebuilt, tmp_path / "ledger", 1, "n", SAME_MACHINE)
    assert (edits.batches, edits.equal, edits.wrong, scores.rows) == (1, 1, [], 2) and scores.agree
    assert edits.report() == {"batches": 1, "equal": 1, "relative_error": 0.0, "cosine": pytest.approx(1.0)}


def test_an_edit_that_fails_now_decides_nothing(rebuilt, tmp_path, monkeypatch):
    monkeypatch.setattr(Replay, "edit", lambda self, batch: (None, {batch[0].id: "out of memory"}))
    with pytest.raises(CannotSay, match="batch 2 cannot be edited again: .*: out of memory"):
        reedit(rebuilt, tmp_path / "ledger", 3, "n", SAME_MACHINE)


def test_a_method_that_cannot_go_back_decides_nothing(rebuilt, tmp_path, monkeypatch):
    def stuck(self, keep=0):
        raise ValueError("the memory is compacted")

    monkeypatch.setattr("editbench.ledger.Ledger.rollback", stuck)
    with pytest.raises(CannotSay, match="cannot go back to its state after 2 batches: the memory is compacted"):
        reedit(rebuilt, tmp_path / "ledger", 3, "n", SAME_MACHINE)

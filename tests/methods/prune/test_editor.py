"""PRUNE beside the plain way of doing the same; its end of a stream is a batch of the ledger, and of a run."""

import json
import math

import pytest
import torch

from editbench import single_run
from editbench.editor import Editor
from editbench.ledger import LedgerError
from editbench.methods.prune import PRUNE
from editbench.methods.prune.editor import restrained
from editbench.results.leaderboard import read_row
from tests.edits import edits
from tests.methods.locate_then_edit import LAYERS, agree, make
from tests.oracles import memit_family as oracle
from tests.small_runs import overrides_of, same, weights
from tests.test_editing_loop import comparable, lines, tiny_folder  # noqa: F401
from tests.test_editing_loop import make as make_run  # noqa: F401
from tests.tiny_models import tiny_lm

SETTINGS = {"layers": LAYERS, "covariance_weight": 0.01, "clamp_norm_factor": 20.0, "learning_rate": 5.0}
"""Such that updates are larger than the weights."""
STREAM = ["stream.edits=5", "stream.batch_size=2", "method.covariance_weight=0.01"]


@pytest.mark.parametrize("mode", ["intended", "published"])
def test_prune(mode):
    lm, other = (tiny_lm("gpt2", "float64") for _ in range(2))
    before = weights(lm)
    editor, plain = make("prune", lm, mode=mode, **SETTINGS), make("memit", other, **SETTINGS)
    for batch in (edits(6)[:4], edits(6)[4:]):
        editor.edit(batch)
        plain.edit(batch)
    agree(lm, other, LAYERS, 1e-12)
    edited = weights(lm)
    facts = editor.finish().details["pruned"]
    for layer in LAYERS:
        assert facts[str(layer)]["above"] > 0
        now = other.weight(other.mlp_out_name(layer))
        original = now - plain.ledger.delta(other.mlp_out_name(layer))
        pruned = oracle.restrained(original, now, math.e)
        now.copy_(pruned if mode == "intended" else now + pruned - original)
    agree(lm, other, LAYERS, 1e-5)
    assert len(editor.ledger) == 3 and editor.ledger.edited_ids == [r.id for r in edits(6)]
    editor.ledger.rollback(2)
    assert same(weights(lm), edited)
    editor.ledger.rollback()
    assert same(weights(lm), before)


def test_small_changes_stay():
    lm = tiny_lm("llama")
    editor = make("prune", lm, layers=LAYERS, covariance_weight=1e4)
    editor.edit(edits(4))
    edited = weights(lm)
    assert [fact["above"] for fact in editor.finish().details["pruned"].values()] == [0, 0]
    assert same(weights(lm), edited)


def test_restrained():
    values = torch.tensor([8.0, 2.0, 1.0])
    assert restrained(values, 2.0, 2.0).tolist() == pytest.approx([4.0, 2.0, 1.0])
    assert restrained(values, 2.0, math.e).tolist() == pytest.approx([2 + math.log(4), 2.0, 1.0])


def test_methods_without_an_end_have_none():
    editor = make("memit", tiny_lm("gpt2"), layers=LAYERS)
    assert not editor.concludes and make("prune", tiny_lm("gpt2"), layers=LAYERS).concludes
    editor.edit(edits(2))
    editor.finish()
    assert len(editor.ledger) == 1


def test_an_end_that_fails_leaves_the_model(monkeypatch):
    lm = tiny_lm("gpt2")
    editor = make("prune", lm, **SETTINGS)
    editor.edit(edits(4))
    edited = weights(lm)
    monkeypatch.setattr("editbench.methods.prune.editor.restrained", lambda values, *_: values * float("nan"))
    with pytest.raises(LedgerError):
        editor.finish()
    assert same(weights(lm), edited) and len(editor.ledger) == 1


def test_an_incomplete_last_batch_is_restrained_too(make_run):  # noqa: F811
    outcome = single_run.run(make_run(*STREAM, settings=[], method=overrides_of("prune")))
    *rows, last = lines(outcome.folder, "edits.jsonl")
    assert [len(row["ids"]) for row in rows] == [2, 2, 1]
    assert (last["ids"], last["batch"]) == ([], 3)
    assert all(fact["above"] > 0 for fact in last["details"]["pruned"].values())
    assert len(lines(outcome.folder, "ledger/index.jsonl")) == 4
    row = read_row(outcome.folder)
    assert (row["status"], row["edits"]) == ("done", 5)


@pytest.mark.parametrize("crash_at", ["before", "within", "behind"])
def test_a_run_that_stops_about_the_end_ends_with_the_same_numbers(make_run, monkeypatch, crash_at):  # noqa: F811
    def run(results):
        return single_run.run(make_run(*STREAM, settings=[], method=overrides_of("prune"), results=results))

    whole = run("whole")
    monkeypatch.setattr("editbench.checkpoint.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("editbench.checkpoint.MAX_SHARE", math.inf)
    owner, name = {"before": (PRUNE, "conclude"), "within": (Editor, "finish")}.get(crash_at, (None, ""))

    def stop(self, *args):
        if crash_at == "within":
            own(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if crash_at == "behind":
            patch.setattr("editbench.editing_loop.EditingLoop._score_at_the_end", stop)
        else:
            own = getattr(owner, name)
            patch.setattr(owner, name, stop)
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    resumed = run("stopped")
    assert comparable(resumed.folder) == comparable(whole.folder)
    found = [json.loads((r.folder / "run.json").read_text())["status"] for r in (whole, resumed)]
    assert found == ["done", "done"]


def test_each_single_edit_is_a_stream_of_its_own(make_run):  # noqa: F811
    single = ["stream.mode=single", "stream.edits=2", "method.covariance_weight=0.01"]
    outcome = single_run.run(make_run(*single, settings=[], method=overrides_of("prune")))
    assert all("pruned" in row["details"] for row in lines(outcome.folder, "edits.jsonl"))


def test_a_longer_run_does_not_go_on_from_a_restrained_one():
    assert not PRUNE.settled_after(PRUNE.config_class(), 10)

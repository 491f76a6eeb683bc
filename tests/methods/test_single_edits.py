"""Single edits of every method: each alone on the unedited model, which has its first bits again after each."""

import json

import pytest

from editbench import single_run
from editbench.editing_loop import EditingLoop
from editbench.results.leaderboard import read_row
from tests.methods.test_conformance import METHODS
from tests.small_runs import KINDS, counterfact_rows, each, overrides_of, same, weights
from tests.test_editing_loop import comparable, lines, make, tiny_folder  # noqa: F401

SINGLE = ["stream.mode=single", "stream.order=file", "stream.edits=2"]


def scored(folder, stage="final"):
    """By record: its row without what tells the runs apart."""
    rows = [row for row in lines(folder, "scores.jsonl") if row["stage"] == stage and "record" in row]
    return {row["record"]: {k: v for k, v in row.items() if k not in ("position", "batch", "edits")} for row in rows}


@pytest.mark.parametrize("method", each(METHODS, fast=KINDS))
def test_each_edit_is_alone_and_is_taken_back_to_the_bit(make, tmp_path, monkeypatch, method):  # noqa: F811
    found = []

    def noted(name):
        own = getattr(EditingLoop, name)

        def call(self, *args):
            found.append((name, weights(self.editor.lm), {k: v.clone() for k, v in self.editor.state().items()}))
            assert name != "_edit" or len(self.editor.ledger) == 0
            return own(self, *args)

        monkeypatch.setattr(EditingLoop, name, call)

    with monkeypatch.context() as monkeypatch:
        noted("_edit")
        noted("_score_at_the_end")
        together = single_run.run(make(settings=overrides_of(method), method=SINGLE))
    assert [name for name, *_ in found] == ["_edit"] * 2 + ["_score_at_the_end"]
    for _, after, state in found[1:]:
        assert same(after, found[0][1]) and same(state, found[0][2])

    apart = {}
    for i, row in enumerate(list(counterfact_rows())[:2]):
        (tmp_path / "counterfact.json").write_text(json.dumps([row]))
        one = single_run.run(make("stream.edits=1", settings=overrides_of(method), method=[], results=f"apart-{i}"))
        apart |= scored(one.folder)
        edit = lines(one.folder, "edits.jsonl")[0]  # a method may end the stream in a row without ids
        assert lines(together.folder, "edits.jsonl")[i]["losses"] == edit["losses"]
    assert scored(together.folder) == apart and len(apart) == 2


@pytest.mark.parametrize("method", each(["memit", "nse", "scen", "grace", "wise", "melo", "defer"], fast=KINDS))
def test_single_edits_go_on_in_the_middle(make, monkeypatch, method):  # noqa: F811
    whole = single_run.run(make(settings=overrides_of(method), method=SINGLE, results="whole"))
    score, calls = EditingLoop._score, []

    def stop(self, *args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(self, *args)

    monkeypatch.setattr("editbench.checkpoint.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("editbench.checkpoint.MAX_SHARE", float("inf"))
    with monkeypatch.context() as patch:
        patch.setattr(EditingLoop, "_score", stop)
        with pytest.raises(KeyboardInterrupt):
            single_run.run(make(settings=overrides_of(method), method=SINGLE))
    again = single_run.run(make(settings=overrides_of(method), method=SINGLE))
    assert comparable(again.folder) == comparable(whole.folder)
    row = read_row(again.folder)
    assert (row["mode"], row["edits"], row["scored"]) == ("single", 2, 2)
    assert row["footprint_host_bytes"] is None and row["bytes_per_edit"] is None


def test_single_edits_do_not_compete_with_a_stream(make):  # noqa: F811
    rows = []
    for mode in ("single", "sequential"):
        outcome = single_run.run(
            make("stream.edits=2", STREAM_MODE.format(mode), settings=overrides_of("unedited"), method=[])
        )
        rows.append(read_row(outcome.folder))
    assert [row["mode"] for row in rows] == ["single", "sequential"]
    assert rows[0]["comparable_group"] != rows[1]["comparable_group"]


STREAM_MODE = "stream.mode={}"


@pytest.mark.parametrize("wrong", ["stream.batch_size=2", "stream.evaluate_at=[1]"])
def test_settings_that_need_a_stream_are_refused(make, wrong):  # noqa: F811
    with pytest.raises(ValueError, match="stream.mode=single makes each edit alone: leave out stream"):
        make(*SINGLE, wrong)

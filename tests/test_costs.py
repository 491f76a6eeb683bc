"""What a run takes: stages apart, cached things at their cost, edits that were made, memory by run and stage."""

import json
import time

import pytest
import torch

from editbench import costs, single_run
from editbench.costs import COVARIANCE, EDIT, EVALUATION, PREPARE, UNEDITED_ANSWERS, VALUES, CachedCosts, Meter
from editbench.editor import Editor
from editbench.files import content_digest, read_tensors
from editbench.results.leaderboard import read_row
from tests.test_editing_loop import lines, make, tiny_folder  # noqa: F401

NSE = ["method=nse", "method.layers=[0,1]", "method.ridge=0.1", "method.alpha=0", "method.steps=3", "stream.edits=4"]
MEBIBYTE = 1 << 20
resets = pytest.mark.skipif(not costs._reset_process_peak(), reason="this system cannot set a process's peak back")


def test_what_is_computed_ahead_counts_for_editing_and_what_is_read_at_its_cost():
    meter = Meter()
    with meter.stage(PREPARE):
        time.sleep(0.05)
        meter.costs.note(VALUES, 0.02, read=False)
        meter.costs.note(COVARIANCE, 100.0, read=True)
    assert meter.seconds[EDIT] == pytest.approx(0.02)
    assert 100.03 <= meter.seconds[PREPARE] < 100.5
    with meter.stage(EVALUATION):
        meter.costs.note(UNEDITED_ANSWERS, 7.0, read=True)
    assert 7 <= meter.seconds[EVALUATION] < 7.4
    assert meter.report()["cached"] == [COVARIANCE, UNEDITED_ANSWERS]


def test_a_run_that_goes_on_keeps_what_was_measured():
    first = Meter()
    with first.stage(EDIT):
        first.costs.note(VALUES, 3.0, read=True)
    first.peaks["edit"] = {"rss": 1 << 50}
    later = Meter()
    with later.stage(PREPARE):
        later.costs.note(COVARIANCE, 5.0, read=True)
    later.restore(json.loads(json.dumps(first.state())))
    assert later.seconds == first.seconds
    assert later.report()["peak_rss_edit_bytes"] == 1 << 50
    assert later.report()["cached"] == [VALUES]
    assert "covariance_tokens" not in later.report()

    not_yet_prepared = Meter()
    with not_yet_prepared.stage(PREPARE):
        not_yet_prepared.costs.note(COVARIANCE, 5.0, read=True)
    not_yet_prepared.restore(first.state(), add=(PREPARE, EDIT))
    assert not_yet_prepared.seconds[PREPARE] >= 5.0
    assert not_yet_prepared.report()["cached"] == [COVARIANCE, VALUES]


def test_the_tokens_behind_the_covariance_are_kept_over_a_stop():
    first, later, again = Meter(), Meter(), Meter()
    first.costs.covariance_tokens = 40_000
    later.restore(json.loads(json.dumps(first.state())))
    again.costs.covariance_tokens = 40_007
    again.restore(first.state())
    assert first.report()["covariance_tokens"] == later.report()["covariance_tokens"] == 40_000
    assert again.report()["covariance_tokens"] == 40_007


@resets
def test_a_peak_belongs_to_its_stage_and_to_its_run():
    def take(mebibytes):
        return torch.ones(mebibytes * MEBIBYTE // 8, dtype=torch.float64).sum()

    first = Meter()
    with first.stage(EDIT):
        take(400)
    with first.stage(EVALUATION):
        take(100)
    peaks, second = first.peak_bytes(), Meter()
    with second.stage(EDIT):
        take(1)
    assert peaks["peak_rss_bytes"] >= peaks["peak_rss_edit_bytes"] > peaks["peak_rss_evaluation_bytes"] + 200 * MEBIBYTE
    assert second.peak_bytes()["peak_rss_bytes"] < peaks["peak_rss_edit_bytes"] - 200 * MEBIBYTE


def test_where_the_peak_cannot_be_set_back_it_is_told_only_if_it_rose(monkeypatch):
    peaks = iter([100, 100, 100, 100, 300, 300, 300, 300])
    monkeypatch.setattr(costs, "_process_peak", lambda: next(peaks))
    monkeypatch.setattr(costs, "_reset_process_peak", lambda: False)
    meter = Meter()
    with meter.stage(EVALUATION):
        pass
    with meter.stage(EDIT):
        pass
    assert meter.peak_bytes() == {"peak_rss_bytes": 300}  # it rose between the stages


def test_values_from_the_cache_cost_what_they_took(make, tmp_path):  # noqa: F811
    first = read_row(single_run.run(make(results="first", method=NSE, settings=())).folder)
    second = read_row(single_run.run(make(results="second", method=NSE, settings=())).folder)
    assert first["cached"] is None
    assert set(second["cached"].split(", ")) == {COVARIANCE, UNEDITED_ANSWERS, VALUES}
    values = list((tmp_path / "cache" / "values").rglob("*.safetensors"))
    assert len(values) == 4
    kept = sum(read_tensors(file)[1]["seconds"] for file in values)
    assert 0 < kept <= second["edit_seconds"]
    assert kept <= first["edit_seconds"]
    assert first["prepare_seconds"] > 0 and second["prepare_seconds"] > 0


def test_the_chain_names_the_cached_files_that_a_run_made_or_read(make, tmp_path):  # noqa: F811
    first = single_run.run(make(results="first", method=NSE, settings=()))
    second = single_run.run(make(results="second", method=NSE, settings=()))
    wanted = {}
    for file in (path for path in (tmp_path / "cache").rglob("*.*") if path.is_file()):
        name = file.relative_to(tmp_path / "cache").as_posix()
        if file.suffix == ".json" and name.startswith("unedited/"):
            wanted[name] = json.loads(file.read_text())["digest"]
        elif file.suffix == ".safetensors":
            tensors, metadata = read_tensors(file)
            wanted[name] = content_digest(tensors, metadata)
    assert {name.split("/")[0] for name in wanted} == {"covariance", "unedited", "values"} and len(wanted) == 7
    for outcome in (first, second):
        sealed = [row["cached"] for row in lines(outcome.folder, "chain.jsonl")]
        assert {name: digest for row in sealed for name, digest in row.items()} == wanted
        assert sum(map(len, sealed)) == len(wanted)  # each once


def test_seconds_are_divided_by_the_edits_that_were_made(make, monkeypatch):  # noqa: F811
    refusal = Editor.refusal

    def most_are_refused(self, request):
        return "unsupported: not this one" if request.id not in ("0", "1") else refusal(self, request)

    monkeypatch.setattr(Editor, "refusal", most_are_refused)
    row = read_row(single_run.run(make()).folder)
    assert (row["edits_made"], row["unsupported"]) == (2, 4)
    assert row["seconds_per_edit"] == row["edit_seconds"] / 2
    assert row["bytes_per_edit"] == row["footprint_host_bytes"] / 2

    monkeypatch.setattr(Editor, "refusal", lambda self, request: "unsupported: none")
    row = read_row(single_run.run(make(results="none")).folder)
    assert row["edits_made"] == 0 and row["seconds_per_edit"] is None and row["bytes_per_edit"] is None


def test_a_resumed_run_adds_up(make, monkeypatch):  # noqa: F811
    monkeypatch.setattr("editbench.checkpoint.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("editbench.checkpoint.MAX_SHARE", float("inf"))
    edit, calls = Editor.edit, []

    def stop_at(self, batch):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(batch)
        time.sleep(0.1)
        return edit(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr("editbench.editor.Editor.edit", stop_at)
        with pytest.raises(KeyboardInterrupt):
            single_run.run(make())
    outcome = single_run.run(make())
    info = json.loads((outcome.folder / "run.json").read_text())
    rows = lines(outcome.folder, "edits.jsonl")
    assert info["costs"]["edit_seconds"] == pytest.approx(sum(row["seconds"] for row in rows), abs=1e-6)
    assert info["costs"]["edit_seconds"] > 0.3
    assert info["costs"]["edits_made"] == 6
    assert {"peak_rss_bytes", "peak_rss_edit_bytes", "peak_rss_evaluation_bytes"} <= set(info["costs"])


def test_second_moments_are_kept_with_their_seconds_though_a_process_was_stopped(tmp_path, monkeypatch):
    from editbench.locate_then_edit import covariance
    from tests.tiny_models import LINES, tiny_lm

    monkeypatch.setattr(covariance, "TOKENS_AT_ONCE", 32)
    monkeypatch.setattr(covariance, "MIN_INTERVAL", 0.0)
    monkeypatch.setattr(covariance, "MAX_SHARE", float("inf"))
    lm, add, calls = tiny_lm("gpt2"), covariance._add_batch, []

    def slow(*args):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        time.sleep(0.05)
        add(*args)

    with monkeypatch.context() as patch:
        patch.setattr(covariance, "_add_batch", slow)
        with pytest.raises(KeyboardInterrupt):
            covariance.compute_covariance(lm, LINES, [0, 1], cache=tmp_path)
    log = CachedCosts()
    covariance.compute_covariance(lm, LINES, [0, 1], cache=tmp_path, costs=log)
    assert log.read[COVARIANCE] >= 0.1  # what the stopped process had done
    again = CachedCosts()
    covariance.compute_covariance(lm, LINES, [0, 1], cache=tmp_path, costs=again)
    assert again.read[COVARIANCE] == pytest.approx(log.read[COVARIANCE] + log.computed[COVARIANCE], rel=0.2)
    assert not again.computed

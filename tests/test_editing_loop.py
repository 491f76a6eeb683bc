"""The loop, end to end on a tiny model: what it writes, how it goes on after a crash, how it takes failed edits."""

import json
import math
import shutil

import pytest
import torch

from editbench import compose as composing_module
from editbench import single_run
from editbench.checkpoint import RunCheckpoint
from editbench.editing_loop import EditingLoop
from editbench.editor import Editor
from editbench.methods.rome import ROME
from editbench.records import NOT_FINITE, EditError
from editbench.results import ResultsError, RunFolder
from editbench.results.leaderboard import collect, read_row
from editbench.results.run_folder import read_run
from editbench.results.table_layout import layout
from tests.small_runs import counterfact_rows, save_model
from tests.tiny_models import LINES, tiny_lm

SETTINGS = ["method.layer=1", "method.steps=3", "stream.edits=6"]
ROME_SETTINGS = ["method=rome", "method.ridge=0.1", "method.template_lengths=[[3,1]]"]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A tiny GPT-2 in a folder, as a user has a model."""
    return save_model(tiny_lm("gpt2"), tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def make(tiny_folder, tmp_path):
    """Compose a run in this test's own results folder."""
    data, text, scored = tmp_path / "counterfact.json", tmp_path / "texts.txt", tmp_path / "plain.txt"
    data.write_text(json.dumps(list(counterfact_rows())))
    text.write_text("\n".join(LINES))
    scored.write_text("\n".join(f"They say: {line}" for line in LINES))

    def compose(*overrides, results="results", method=ROME_SETTINGS, settings=SETTINGS):
        places = [f"model.path={tiny_folder}", f"results.dir={tmp_path / results}", f"cache={tmp_path / 'cache'}"]
        places += [f"model.texts={text}", "dataset=counterfact", f"dataset.path={data}", f"dataset.plain_path={scored}"]
        return composing_module.compose([*method, *settings, *places, *overrides])

    return compose


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def comparable(folder):
    """Everything that a run decided, without the times that it took."""
    edits = [{k: v for k, v in row.items() if k != "seconds"} for row in lines(folder, "edits.jsonl")]
    return lines(folder, "scores.jsonl"), edits


def test_a_run_writes_everything_and_lands_in_the_leaderboard(make, tmp_path):
    outcome = single_run.run(make())
    rows = lines(outcome.folder, "scores.jsonl")
    stages = {(r["stage"], r.get("of")) for r in rows}
    assert {
        ("before", "perplexity.plain"),
        ("immediate", None),
        ("final", None),
        ("final", "perplexity.plain"),
    } <= stages
    assert sum(r["stage"] == "immediate" for r in rows) == 6
    info = json.loads((outcome.folder / "run.json").read_text())
    assert info["status"] == "done"
    assert info["provenance"]["model"]["hash"] == tiny_lm("gpt2").fingerprint
    assert [line["batch"] for line in lines(outcome.folder, "ledger/index.jsonl")] == list(range(6))
    (row,) = collect(tmp_path / "results")
    assert row["method"] == "rome"
    assert row["edits"] == 6
    assert row["perplexity_before"] is not None
    assert row["seconds_per_edit"] > 0


def test_only_the_first_edits_are_scored_at_the_end_where_a_protocol_says_so(make):
    outcome = single_run.run(make("protocol.final_first.default=2"))
    rows = [r for r in lines(outcome.folder, "scores.jsonl") if "record" in r]
    assert sum(r["stage"] == "immediate" for r in rows) == 6
    assert [r["position"] for r in rows if r["stage"] == "final"] == [0, 1]
    info = json.loads((outcome.folder / "run.json").read_text())
    assert info["provenance"]["protocol"]["final_first"] == 2
    assert info["summary"]["final"]["records"]["scored"] == 2
    with pytest.raises(ValueError, match="final_first is 0 for counterfact; it must be at least 1"):
        single_run.run(make("protocol.final_first.default=0"))


def test_the_unedited_model_is_asked_only_what_is_scored(make, tmp_path):
    scored = [
        *("protocol.final_first.default=2", "protocol.stages=[final]"),
        *("stream.evaluate_at=[3]", "protocol.retention_sample=1", "stream.revisions=0.34"),
    ]
    outcome = single_run.run(make(*scored))
    asked = {probe["prompt"] for row in lines(outcome.folder, "scores.jsonl") for probe in row.get("probes", ())}
    [file] = (tmp_path / "cache" / "unedited").iterdir()
    assert {prompt for prompt, *_ in json.loads(file.read_text())["content"]["scores"]} == asked
    rows = [r for r in lines(outcome.folder, "scores.jsonl") if "record" in r]
    assert len(rows) == 3 and len({r["record"] for r in rows}) < 6


@pytest.mark.parametrize(
    "method",
    [pytest.param(ROME_SETTINGS, id="rome"), pytest.param(["method=finetune"], id="finetune", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("crash_at", [0, 3, 5])
def test_a_crashed_run_goes_on_and_ends_with_the_same_numbers(make, monkeypatch, method, crash_at):
    whole = single_run.run(make(results="whole", method=method))

    monkeypatch.setattr("editbench.checkpoint.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("editbench.checkpoint.MAX_SHARE", math.inf)
    edit, calls = Editor.edit, []

    def stop_at(self, batch):
        if len(calls) == crash_at:
            raise KeyboardInterrupt
        calls.append(batch)
        return edit(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr("editbench.editor.Editor.edit", stop_at)
        with pytest.raises(KeyboardInterrupt):
            single_run.run(make(results="stopped", method=method))
    folder = next((whole.folder.parent.parent / "stopped").iterdir())
    assert read_row(folder)["status"] == "interrupted"
    resumed = single_run.run(make(results="stopped", method=method))
    assert comparable(resumed.folder) == comparable(whole.folder)


def test_a_damaged_state_is_said_and_nothing_is_lost(make, monkeypatch):
    outcome = single_run.run(make())
    store = RunFolder.open(outcome.folder)
    store.set_status("running")
    store.close()
    state = outcome.folder / "ledger" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:50])
    with pytest.raises(ResultsError, match=r"state\.safetensors is damaged"):
        single_run.run(make())
    assert lines(outcome.folder, "edits.jsonl")


def test_weights_that_become_nan_in_mid_stream_are_counted_and_their_batch_is_named(make, monkeypatch, caplog):
    original = ROME.write

    def write(self, batch, transaction, result):
        original(self, batch, transaction, result)
        if len(self.ledger) == 2:  # no change: behind the ledger's back
            self.lm.model.get_input_embeddings().weight.data[:] = math.nan

    monkeypatch.setattr(ROME, "write", write)
    outcome = single_run.run(make())
    summary = read_run(outcome.folder)["summary"]
    assert summary["nonfinite"] == {"batch": 2, "edits": 3}
    measures = summary["final"]["measures"]
    assert measures["rewrite.exact_match"]["nonfinite"] == measures["rewrite.exact_match"]["n"] == 3
    assert summary["final"]["records"]["failed"] == 3
    row = read_row(outcome.folder)
    assert row["nonfinite_batch"] == 2
    assert "the model gives NaN or infinity from batch 2 on" in layout([row]).notes[0]
    assert "after batch 2 the model gives NaN or infinity" in caplog.text


def test_other_weights_on_replay_are_noticed(make, tmp_path):
    outcome = single_run.run(make())
    lm = tiny_lm("gpt2")
    lm.weight(lm.mlp_out_name(1))[0, 0] += 1.0
    folder = tmp_path / "copy"
    shutil.copytree(outcome.folder / "ledger", folder)
    from editbench.ledger import Ledger
    from editbench.registry import make_editor

    editor = make_editor("unedited", lm, ledger=Ledger(lm, folder))
    with pytest.raises(RuntimeError, match="gives other weights"):
        RunCheckpoint(folder).restore(editor)


def test_what_the_unedited_model_says_is_kept_when_preparing_is_interrupted(make, monkeypatch):
    counted = []
    original = EditingLoop._unedited_rows
    monkeypatch.setattr(EditingLoop, "_unedited_rows", lambda self: counted.append(1) or original(self))
    with monkeypatch.context() as patch:
        patch.setattr(ROME, "prepare", lambda self, requests: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            single_run.run(make())
    outcome = single_run.run(make())
    assert counted == [1]
    whole = single_run.run(make(results="others"))
    assert comparable(outcome.folder) == comparable(whole.folder)


def test_failed_and_unsupported_records_are_counted_and_never_scored(make, monkeypatch):
    original = ROME.write

    def write(self, batch, transaction, result):
        original(self, batch, transaction, result)
        if batch[0].id == self.spoiled:
            raise EditError([batch[0].id], "the loss became NaN", NOT_FINITE)

    monkeypatch.setattr(ROME, "write", write)
    config = make("stream.batch_size=3")
    monkeypatch.setattr(ROME, "spoiled", "1", raising=False)
    outcome = single_run.run(config)
    final = [r for r in lines(outcome.folder, "scores.jsonl") if r["stage"] == "final" and "record" in r]
    failed = [r for r in final if r["status"] == "failed"]
    assert [r["record"] for r in failed] == ["1"]
    assert failed[0]["scores"] == {}
    assert failed[0]["reason"] == "failed: NaN: the loss became NaN"
    row = read_row(outcome.folder)
    assert row["failed"] == 1
    assert row["scored"] == 5


def test_an_edit_that_a_later_one_replaces_is_not_scored_on_its_old_target(make, tmp_path):
    """Immediately after its own batch it is; and it is again where the later edit was not made."""
    data = tmp_path / "counterfact.json"
    rows = list(counterfact_rows())
    rows[4] = {**rows[4], "prompt": f" {rows[1]['prompt']}", "subject": rows[1]["subject"]}
    rows[5] = {**rows[5], "prompt": rows[2]["prompt"], "subject": rows[2]["subject"], "target_new": "Toko " * 200}
    data.write_text(json.dumps(rows))
    outcome = single_run.run(make("stream.order=file", "stream.evaluate_at=[3]"))
    found = {(r["stage"], r["record"]): r for r in lines(outcome.folder, "scores.jsonl") if "record" in r}
    assert {r["status"] for (stage, id), r in found.items() if stage != "final" and id != "5"} == {"scored"}
    assert found["final", "1"]["status"] == "skipped"
    assert found["final", "1"]["reason"] == "skipped: overwritten by '4'"
    assert found["final", "2"]["status"] == "scored"  # the edit that would replace it is longer than the model takes
    assert found["final", "5"]["status"] == "unsupported"
    row = read_row(outcome.folder)
    assert (row["scored"], row["skipped"], row["unsupported"]) == (4, 1, 1)


def test_a_method_that_needs_a_subject_gives_unsupported(make, tmp_path):
    file = tmp_path / "questions.jsonl"
    rows = [{"prompt": f"What is the capital of land {i}?", "target": "Rome"} for i in range(6)]
    file.write_text("\n".join(json.dumps(r) for r in rows))
    outcome = single_run.run(make("dataset=custom", f"dataset.path={file}"))
    row = read_row(outcome.folder)
    assert row["unsupported"] == 6
    assert row["reliability"] is None
    reasons = {r["reason"] for r in lines(outcome.folder, "scores.jsonl") if r.get("status") == "unsupported"}
    assert reasons == {"unsupported: ROME needs a subject, and the record has none"}


def test_a_method_cannot_call_a_record_the_data_s_fault(make, monkeypatch):
    """What a method passes over counts against its coverage, whatever it calls it."""
    monkeypatch.setattr(ROME, "refusal", lambda self, request: "skipped: too hard" if request.id == "1" else None)
    row = read_row(single_run.run(make()).folder)
    assert (row["unsupported"], row["skipped"], row["scored"]) == (1, 0, 5) and row["coverage"] == 5 / 6


def test_editors_never_see_probes(make, monkeypatch):
    seen = []
    original = ROME.edit
    monkeypatch.setattr(ROME, "edit", lambda self, batch: seen.extend(batch) or original(self, batch))
    single_run.run(make())
    assert {type(s).__name__ for s in seen} == {"EditRequest"}
    assert not any(hasattr(s, "probes") for s in seen)


def test_checkpoints_are_scored_with_all_records_so_far(make):
    outcome = single_run.run(make("stream.evaluate_at=[2,4]"))
    rows = [r for r in lines(outcome.folder, "scores.jsonl") if r["stage"] == "interim" and "record" in r]
    assert [sum(r["edits"] == n for r in rows) for n in (2, 4)] == [2, 4]


def test_memory_is_counted(make):
    outcome = single_run.run(make())
    costs = json.loads((outcome.folder / "run.json").read_text())["costs"]
    assert costs["peak_rss_bytes"] > 0
    assert set(costs["footprint"]) == {"device", "host", "disk"}


def test_checkpoints_by_rule_and_a_sample_of_the_records_so_far(make):
    outcome = single_run.run(make("stream.evaluate_at=every:2", "protocol.retention_sample=3"))
    rows = [r for r in lines(outcome.folder, "scores.jsonl") if r["stage"] == "interim" and "record" in r]
    scored = [{r["record"] for r in rows if r["edits"] == n} for n in (2, 4, 6)]
    assert [len(several) for several in scored] == [2, 3, 3]
    final = [r for r in lines(outcome.folder, "scores.jsonl") if r["stage"] == "final" and "record" in r]
    assert len(final) == 6
    config = make("stream.evaluate_at=every:2", "protocol.retention_sample=3", results="again")
    again = [r for r in lines(single_run.run(config).folder, "scores.jsonl") if "record" in r]
    assert {r["record"] for r in again if r["edits"] == 4 and r["stage"] == "interim"} == scored[1]


def test_points_after_every_batch_measure_samples_and_the_end_measures_everything(make):
    overrides = ("stream.evaluate_at=all", "protocol.retention_sample=2", "protocol.text_sample=3")
    outcome = single_run.run(make(*overrides, "stream.edits=4"))
    rows = lines(outcome.folder, "scores.jsonl")
    points = {(row["edits"], row["of"]) for row in rows if row["stage"] == "interim" and "of" in row}
    texts = {of for _, of in points if of.startswith("perplexity.")}
    assert {edits for edits, _ in points} == {1, 2, 3, 4} and texts == {"perplexity.plain_sample"}
    assert sum(row["stage"] == "interim" and "record" in row for row in rows) == 1 + 2 + 2 + 2
    counts = {(row["stage"], row["of"]): row["scores"]["texts"] for row in rows if "texts" in row["scores"]}
    for stage in ("before", "final"):
        assert counts[stage, "perplexity.plain_sample"] == 3 < counts[stage, "perplexity.plain"] == len(LINES)
    whole = read_row(single_run.run(make("stream.edits=4", results="whole")).folder)
    row = read_row(outcome.folder)
    assert row["perplexity_ratio"] == whole["perplexity_ratio"]
    assert row["comparable_group"] != whole["comparable_group"]


def test_how_far_the_model_moved_and_what_the_method_keeps(make):
    outcome = single_run.run(make("stream.evaluate_at=[3]", "stream.edits=4"))
    rows = lines(outcome.folder, "scores.jsonl")
    drift = {r["stage"]: r["scores"] for r in rows if r.get("of") == "drift"}
    lm = tiny_lm("gpt2")
    name = lm.mlp_out_name(1)
    before = lm.weight(name).double().clone()
    from editbench.ledger import Ledger

    Ledger(lm, outcome.folder / "ledger").replay(keep=4)
    expected = float((lm.weight(name).double() - before).norm() / before.norm())
    assert set(drift["final"]) == {f"weight_change.{name}", "weight_change", "hidden_change"}
    assert drift["final"]["weight_change"] == pytest.approx(expected, rel=1e-6)
    assert drift["final"][f"weight_change.{name}"] == drift["final"]["weight_change"]
    assert 0 < drift["interim"]["weight_change"] != expected
    assert drift["final"]["hidden_change"] > 0
    assert [set(r["scores"]) for r in rows if r.get("of") == "footprint"] == [{"device", "host", "disk"}] * 2


def test_generated_answers_are_columns_of_every_table(make, tmp_path):
    outcome = single_run.run(make())
    row = read_row(outcome.folder)
    for name in ("rewrite.generation", "rewrite.generation_contains", "paraphrase.generation", "locality.generation"):
        assert row[f"final.{name}"] is not None
    assert row["final.locality.generation_agreement"] is not None
    (one, *_) = [r for r in lines(outcome.folder, "scores.jsonl") if r["stage"] == "final" and "record" in r]
    assert all("before" in probe and "generated" in probe for probe in one["probes"])


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to"), MemoryError("no room")])
def test_too_little_memory_is_an_edit_that_failed(make, monkeypatch, error):
    original = ROME.write

    def write(self, batch, transaction, result):
        original(self, batch, transaction, result)
        if batch[0].id == "1":
            raise error

    monkeypatch.setattr(ROME, "write", write)
    outcome = single_run.run(make())
    assert read_row(outcome.folder)["failed"] == 1
    (row,) = [r for r in lines(outcome.folder, "scores.jsonl") if r.get("status") == "failed" and r["stage"] == "final"]
    assert row["reason"].startswith("failed: out of memory: ")
    lm = tiny_lm("gpt2")
    from editbench.ledger import Ledger

    ledger = Ledger(lm, outcome.folder / "ledger")
    ledger.replay()
    assert len(ledger.edited_ids) == 5 and "1" not in ledger.edited_ids  # nothing of it stayed in the model


def test_many_records_are_scored_a_few_at_a_time(make, monkeypatch):
    whole = single_run.run(make(results="whole"))
    monkeypatch.setattr("editbench.editing_loop.RECORDS_TOGETHER", 2)
    parts = single_run.run(make(results="parts"))
    for a, b in zip(*(lines(o.folder, "scores.jsonl") for o in (whole, parts)), strict=True):
        assert (a.get("record"), a.get("of")) == (b.get("record"), b.get("of"))
        assert a["scores"] == pytest.approx(b["scores"], rel=1e-4)


def test_a_run_does_not_go_on_with_other_data_or_another_model(make, tmp_path, tiny_folder):
    outcome = single_run.run(make())
    store = RunFolder.open(outcome.folder)
    store.set_status("running")
    store.close()
    rows = list(counterfact_rows())
    rows[3]["target_new"] = "Latin"
    (tmp_path / "counterfact.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="the dataset has changed since"):
        single_run.run(make())
    redone = single_run.run(make("results.rerun=true"))
    assert redone.folder == outcome.folder


def test_a_run_whose_first_edits_failed_half_way_can_go_on(make, monkeypatch):
    """A weight that was touched and put back is not an edited weight."""
    write = ROME.write

    def fails(self, batch, transaction, result):
        write(self, batch, transaction, result)
        if batch[0].id in ("0", "1", "2"):
            raise EditError([batch[0].id], "on purpose")
        raise KeyboardInterrupt

    monkeypatch.setattr("editbench.checkpoint.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("editbench.checkpoint.MAX_SHARE", math.inf)
    with monkeypatch.context() as patch:
        patch.setattr(ROME, "write", fails)
        with pytest.raises(KeyboardInterrupt):
            single_run.run(make("stream.order=file"))
    outcome = single_run.run(make("stream.order=file"))
    assert read_row(outcome.folder)["failed"] == 3

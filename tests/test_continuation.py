"""A longer run takes over a shorter one's edits, and ends with the bits of a run from the start."""

import json
import logging
import re

import pytest

from editbench import single_run
from editbench.editor import Editor
from editbench.ledger import Ledger
from editbench.registry import load_method
from editbench.results import RunFolder
from editbench.results.leaderboard import read_row
from editbench.results.run_folder import read_run
from tests.methods.test_conformance import METHODS
from tests.small_runs import counterfact_rows, each, overrides_of
from tests.test_editing_loop import comparable, lines, make, tiny_folder  # noqa: F401
from tests.tiny_models import tiny_lm

DRAWN = ["stream.sample=random", "stream.order=shuffled"]
FRESH = "results.continue_from=never"
CONTINUING = [name for name in METHODS if load_method(name).conclude is Editor.conclude]
"""Methods whose streams can go on: PRUNE has changed the sum of its edits at the end."""


@pytest.fixture
def edited(monkeypatch):
    """Ids that were edited."""
    found, edit = [], Editor.edit

    def call(self, batch):
        found.extend(request.id for request in batch)
        return edit(self, batch)

    monkeypatch.setattr(Editor, "edit", call)
    return found


@pytest.fixture
def go(make):  # noqa: F811
    """Runs a stream of so many edits."""

    def run(edits, *more, method="rome", results="results"):
        config = make(*more, f"stream.edits={edits}", settings=overrides_of(method), method=[], results=results)
        return single_run.run(config).folder

    return run


def bits(folder):
    """Everything in a run's folder, by file."""
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def index(folder):
    return [line["digest"] for line in lines(folder, "ledger/index.jsonl")]


@pytest.mark.parametrize("method", each(CONTINUING, fast=["nse", "scen"]))
def test_a_longer_run_has_the_bits_of_a_fresh_one_and_edits_nothing_twice(go, edited, method):
    settings = [*DRAWN, "stream.evaluate_at=every:2", "protocol.retention_sample=2"]
    short = go(4, *settings, method=method)
    before = bits(short)
    edited.clear()
    longer = go(6, *settings, method=method)
    assert len(edited) == 2
    fresh = go(6, *settings, FRESH, method=method, results="fresh")
    assert comparable(longer) == comparable(fresh)
    assert (longer / "scores.jsonl").read_bytes() == (fresh / "scores.jsonl").read_bytes()
    assert method == "unedited" or index(longer) == index(fresh)
    assert bits(short) == before
    assert [read_run(folder)["status"] for folder in (short, longer)] == ["done", "done"]
    continued = json.loads((longer / "run.json").read_text())["provenance"]["continued"]
    root = json.loads((short / "manifest.json").read_text())["root"]
    assert continued == {"run": short.name, "root": root, "edits": 4}
    one, other = read_row(longer), read_row(fresh)
    alike = ("identity", "comparable_group", "edits", "edits_made", "score", "stream_hash", "footprint_host_bytes")
    assert {name: one[name] for name in alike} == {name: other[name] for name in alike}
    assert one["edit_seconds"] > read_row(short)["edit_seconds"]


@pytest.mark.slow
def test_the_file_s_order_goes_on_though_fewer_records_were_read(go, edited):
    short = go(2, "stream.order=file")
    edited.clear()
    longer = go(4, "stream.order=file")
    assert edited == ["2", "3"]
    assert comparable(longer) == comparable(go(4, "stream.order=file", FRESH, results="fresh"))
    assert read_row(short)["data_hash"] != read_row(longer)["data_hash"]


@pytest.mark.slow
def test_an_evaluation_point_at_the_end_of_the_shorter_run_is_scored_now(go):
    go(2, *DRAWN)
    longer = go(4, *DRAWN, "stream.evaluate_at=[2,3]")
    fresh = go(4, *DRAWN, "stream.evaluate_at=[2,3]", FRESH, results="fresh")
    assert comparable(longer) == comparable(fresh)
    assert "continued" in json.loads((longer / "run.json").read_text())["provenance"]


@pytest.mark.slow
def test_only_whole_groups_of_experts_are_taken_over(go, edited):
    go(5, *DRAWN, method="scen")
    edited.clear()
    longer = go(6, *DRAWN, method="scen")  # experts are trained four at once
    assert len(edited) == 2
    assert comparable(longer) == comparable(go(6, *DRAWN, FRESH, method="scen", results="fresh"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("short", "longer", "why"),
    [
        ([], [], "does not begin with its 3; streams with stream.sample=random"),
        ([*DRAWN], [*DRAWN, "stream.evaluate_at=[2]"], "it was not scored after 2 edits"),
        ([*DRAWN, "stream.evaluate_at=[2]"], [*DRAWN, "stream.evaluate_at=[4]"], "it was also scored after 2 edits"),
        ([*DRAWN, "stream.batch_size=2"], [*DRAWN, "stream.batch_size=2"], "its last batch would be another"),
    ],
)
def test_what_cannot_go_on_starts_afresh_in_one_line_or_is_refused(go, caplog, short, longer, why):
    with caplog.at_level(logging.INFO, "editbench"):
        name = go(3, *short).name
        folder = go(4, *longer)
    (line,) = [record.message for record in caplog.records if "a run from the start" in record.message]
    assert why in line and "continued" not in json.loads((folder / "run.json").read_text())["provenance"]
    with pytest.raises(ValueError, match=f"results.continue_from: {name} is not continued: .*{why}"):
        go(5, *longer, f"results.continue_from={name}")


@pytest.mark.slow
def test_other_runs_are_refused_by_name(go, monkeypatch):
    folder = go(2, *DRAWN)
    other = f"results.continue_from={folder}"
    with pytest.raises(ValueError, match="its settings are others: method.steps is 4 and 5"):
        go(4, *DRAWN, "method.steps=5", other)
    with pytest.raises(ValueError, match="nowhere is no run folder, and no run in"):
        go(4, *DRAWN, "results.continue_from=nowhere")
    monkeypatch.setenv("HOME", str(folder.parent))
    with pytest.raises(ValueError, match="its settings are others: method.steps is 4 and 5"):
        go(4, *DRAWN, "method.steps=5", f"results.continue_from=~/{folder.name}")
    with RunFolder.open(folder) as store:
        store.set_status("running")
    with pytest.raises(ValueError, match="it is interrupted"):
        go(4, *DRAWN, other)


@pytest.mark.slow
def test_other_records_or_libraries_are_not_continued(go, tmp_path, monkeypatch, caplog):
    go(2, *DRAWN)
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO, "editbench"):
        patch.setattr("editbench.provenance._version", lambda name: "0")
        go(3, *DRAWN)
    assert "made with other libraries: editbench is" in caplog.text
    rows = list(counterfact_rows())
    (tmp_path / "counterfact.json").write_text(json.dumps([*rows[:5], {**rows[5], "target_new": "Latin"}]))
    with caplog.at_level(logging.INFO, "editbench"):
        go(4, *DRAWN)
    assert "the dataset has changed" in caplog.text


@pytest.mark.parametrize("method", each(["nse", "scen", "grace", "wise", "melo", "defer"], fast=["nse"]))
def test_a_stopped_continuation_goes_on(go, edited, monkeypatch, method):
    go(4, *DRAWN, method=method)
    with monkeypatch.context() as patch:
        patch.setattr(Editor, "edit", lambda self, batch: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            go(6, *DRAWN, method=method)
    edited.clear()
    longer = go(6, *DRAWN, method=method)
    assert len(edited) == 2
    assert comparable(longer) == comparable(go(6, *DRAWN, FRESH, method=method, results="fresh"))


def test_a_run_that_is_not_shorter_is_passed_over_in_silence(go, edited, caplog):
    go(3, *DRAWN)
    edited.clear()
    with caplog.at_level(logging.INFO, "editbench"):
        go(2, *DRAWN)
    assert len(edited) == 2 and "continue" not in caplog.text and "from the start" not in caplog.text


def test_rerun_starts_at_the_first_edit(go, edited):
    go(2, *DRAWN)
    go(3, *DRAWN)
    edited.clear()
    folder = go(3, *DRAWN, "results.rerun=true")
    assert len(edited) == 3
    lm = tiny_lm("gpt2")
    Ledger(lm, folder / "ledger").replay()


def test_other_files_in_its_folder_stay_and_it_starts_at_the_first_edit(go, edited, tmp_path, caplog):
    short = go(2, *DRAWN)
    notes = tmp_path / "results" / "longer" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    named = (*DRAWN, "results.name=longer")
    message = f"{short.name} is not continued: {notes.parent} holds files already (notes.txt); move them away"
    with pytest.raises(ValueError, match=re.escape(message)):
        go(3, *named, f"results.continue_from={short}")
    edited.clear()
    with caplog.at_level(logging.INFO, "editbench"):
        folder = go(3, *named)
    assert len(edited) == 3 and message in caplog.text
    assert notes.read_text() == "mine" and read_run(folder)["status"] == "done"


def test_a_damaged_run_beside_it_is_passed_over_by_name(go, caplog):
    short = go(2)
    (short / "run.json").write_text("[]")
    with caplog.at_level("INFO"):
        longer = go(4)
    assert f"{short.name} is not continued: " in caplog.text
    assert len(lines(longer, "edits.jsonl")) >= 2

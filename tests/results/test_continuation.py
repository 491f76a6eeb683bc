"""The folder of a run that goes on: sound to every reader, and nothing of it where copying fails."""

import json
import shutil

import pytest
import torch

from editbench.files import read_tensors, write_tensors
from editbench.results import RunFolder
from editbench.results.continuation import can_be_cut, continue_run
from editbench.results.run_folder import read_run

FACTS = {"model": {"hash": "m"}, "dataset": {"hash": "d"}, "stream": {"hash": "s"}, "seed": 0}


@pytest.fixture
def finished(tmp_path):
    """A run of three batches, its checkpoint after the last one."""
    with RunFolder.create(tmp_path, "short", "edits: 3\n", FACTS) as folder:
        head = folder.seal(-1)
        for batch in range(3):
            folder.append_edit({"batch": batch, "ids": [str(batch)], "seconds": 1.0})
            head = folder.seal(batch, [f"digest-{batch}"] if batch != 1 else [])
        state = {"batches": 3, "ledger_batches": 2, "weights": "w", "head": head, "measured": "{}"}
        write_tensors(folder.ledger / "state.safetensors", {"keys": torch.ones(2)}, state)
        folder.append_scores([{"stage": "final", "edits": 3, "batch": 2, "of": "drift", "scores": {}}])
        folder.seal(2)
        folder.set_status("done")
    return folder.path


def test_the_new_folder_is_that_of_a_run_stopped_there(finished, tmp_path):
    longer = {**FACTS, "stream": {"hash": "longer"}}
    continue_run(finished, tmp_path / "longer", 2, "edits: 6\n", longer, 2)
    info = read_run(tmp_path / "longer")
    assert (info["status"], info["run"], info["provenance"]["stream"]) == ("interrupted", "longer", {"hash": "longer"})
    assert info["provenance"]["continued"]["run"] == "short"
    tensors, state = read_tensors(tmp_path / "longer" / "ledger" / "state.safetensors")
    assert (state["batches"], state["ledger_batches"]) == (2, 1) and torch.equal(tensors["keys"], torch.ones(2))
    with RunFolder.open(tmp_path / "longer") as folder:
        assert folder.head == state["head"] and [row["batch"] for row in folder.edits()] == [0, 1]
        assert folder.scores() == [] and folder.repairs == ()
    assert read_run(finished)["status"] == "done"


def test_nothing_is_left_where_copying_fails(finished, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(shutil, "copytree", fail)
    with pytest.raises(ValueError, match="disk full.*results.continue_from=never"):
        continue_run(finished, tmp_path / "longer", 2, "", FACTS, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["short"]


def test_a_folder_with_files_is_named_and_left_as_it_is(finished, tmp_path):
    (tmp_path / "longer").mkdir()
    (tmp_path / "longer" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"cannot make the folder .*longer: .*; move away what lies there"):
        continue_run(finished, tmp_path / "longer", 2, "edits: 6\n", FACTS, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["longer", "short"]
    assert [path.name for path in (tmp_path / "longer").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(("weights", "state", "cut"), [([], {}, True), (["w"], {}, False), ([], {"keys": 1}, False)])
def test_a_run_can_be_cut_where_all_that_it_keeps_is_in_the_ledger(tmp_path, weights, state, cut):
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "index.jsonl").write_text(json.dumps({"batch": 0, "weights": weights}) + "\n")
    tensors = {name: torch.tensor(value) for name, value in state.items()}
    write_tensors(tmp_path / "ledger" / "state.safetensors", tensors, {})
    assert can_be_cut(tmp_path) is cut

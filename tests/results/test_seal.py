"""A run folder whose files are not what the run wrote is named, never plainly "done" or "interrupted"."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from editbench.files import DamagedFile, write_tensors
from editbench.ledger_files import LedgerFiles
from editbench.results import ResultsError, RunFolder, seal
from editbench.results.leaderboard import read_row
from editbench.results.run_folder import encode_info, is_run, read_run
from editbench.results.schema import CHAIN_FILE, MANIFEST_FILE, STATE_FILE
from tests.results.test_run_folder import edit_row, score_row

FACTS = {"model": {"hash": "m"}, "dataset": {"hash": "d"}, "stream": {"hash": "s"}, "versions": {"f": 1}, "seed": 0}
FILES = (
    "config.yaml",
    "scores.jsonl",
    "edits.jsonl",
    "chain.jsonl",
    "ledger/index.jsonl",
    "ledger/segment-000000.bin",
    "ledger/keyframe-000002.safetensors",
    "ledger/state.safetensors",
)
POSITIONS = 16


def unedited_row():
    return {"stage": "before", "edits": 0, "batch": -1, "of": "perplexity.plain", "scores": {"perplexity": 3.5}}


def make(root, ended, batches=3):
    """A run of some batches, written by hand: its tensors are tiny."""
    with RunFolder.create(root, "run", "seed: 0\n", FACTS) as folder:
        ledger = LedgerFiles(folder.ledger)
        folder.append_scores([unedited_row()])
        folder.seal(-1, cached={"covariance/layer-5": "c" * 64})
        for batch in range(batches):
            tensors, memory = (
                {"t": torch.full((2,), float(batch))},
                {f"r{batch}": ({"key": torch.ones(8)}, {"batch": batch})},
            )
            blob = ledger.append([f"r{batch}"], ["w"], tensors, {"changes": []}, memory).blob
            if batch == 1:
                ledger.add_keyframe({"w": torch.ones(2)})
            folder.append_edit(edit_row(batch))
            folder.append_scores([score_row(f"r{batch}", batch)])
            head = folder.seal(batch, [blob.digest])
        write_tensors(folder.path / STATE_FILE, {}, {"batches": batches, "head": head})
        if ended:
            folder.append_scores([score_row("r0", batches - 1, stage="final")])
            folder.seal(batches - 1)
            folder.set_status("done", summary={"final": None})
    return folder.path


def positions(size):
    return sorted({*range(0, size, max(1, size // POSITIONS)), size - 1})


def test_what_a_run_wrote_is_sound(tmp_path):
    done, killed = make(tmp_path / "done", True), make(tmp_path / "killed", False)
    assert read_run(done)["status"] == "done" and (done / MANIFEST_FILE).exists()
    assert read_run(killed)["status"] == "interrupted" and not (killed / MANIFEST_FILE).exists()
    for path in (done, killed):
        RunFolder.open(path).close()
    rows = [json.loads(line) for line in (done / CHAIN_FILE).read_text().splitlines()]
    assert [row["batch"] for row in rows] == [-1, 0, 1, 2, 2]
    assert rows[0]["facts"]["model"] == "m" and rows[0]["cached"] == {"covariance/layer-5": "c" * 64}
    assert [row["previous"] for row in rows] == ["", *(row["head"] for row in rows[:-1])]
    manifest = json.loads((done / MANIFEST_FILE).read_text())
    assert sorted(manifest["files"]) == sorted((*FILES, "run.json")) and manifest["head"] == rows[-1]["head"]


@pytest.mark.parametrize("name", [*FILES, "run.json", MANIFEST_FILE])
@pytest.mark.parametrize("ended", [True, False], ids=["done", "killed"])
def test_every_altered_region_of_every_file_is_named(name, ended, tmp_path):
    path = make(tmp_path, ended)
    if not ended and name == MANIFEST_FILE:
        pytest.skip("a killed run has none")
    file, whole = path / name, (path / name).read_bytes()
    for at in positions(len(whole)):
        for data in (whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], whole[:at]):
            file.write_bytes(data)
            row = read_row(path)
            assert row["status"] == "damaged", (at, data[at : at + 20])
            assert row["reason"] and str(path) in row["reason"] and row["score"] is None
    file.write_bytes(whole)
    assert read_run(path)["status"] == ("done" if ended else "interrupted")
    file.unlink()
    assert read_row(path)["status"] == "damaged"
    with pytest.raises(ResultsError):
        RunFolder.open(path)


@pytest.mark.parametrize("name", ["scores.jsonl", "edits.jsonl", "chain.jsonl", "ledger/index.jsonl"])
@pytest.mark.parametrize("ended", [True, False], ids=["done", "killed"])
def test_every_line_left_out_doubled_or_moved_is_named(name, ended, tmp_path):
    path = make(tmp_path, ended)
    whole = (path / name).read_text().splitlines(keepends=True)
    for at in range(len(whole)):
        others = whole[:at] + whole[at + 1 :]
        for lines in (others, [*whole[: at + 1], *whole[at:]], [*others, whole[at]]):
            if lines != whole and not (at == len(whole) - 1 and name != "chain.jsonl" and len(lines) > len(whole)):
                (path / name).write_text("".join(lines))
                assert read_run(path)["status"] == "damaged", (at, len(lines))
    if ended:  # of a killed run a further line could be that of the batch under way
        (path / name).write_text("".join([*whole, whole[-1]]))
        assert read_run(path)["status"] == "damaged"


@pytest.mark.parametrize("ended", [True, False], ids=["done", "killed"])
def test_every_line_of_run_json_left_out_or_edited_is_named(ended, tmp_path):
    path = make(tmp_path, ended)
    whole = (path / "run.json").read_text().splitlines(keepends=True)
    for at, line in enumerate(whole):
        for lines in ([*whole[:at], *whole[at + 1 :]], [*whole[:at], line.replace("e", "x", 1), *whole[at + 1 :]]):
            if lines != whole:
                (path / "run.json").write_text("".join(lines))
                assert read_row(path)["status"] == "damaged", line


def test_a_file_that_is_a_pipe_a_device_or_a_folder_is_named_and_nobody_waits(tmp_path):
    path = make(tmp_path, True)
    for name in (*FILES, "run.json", MANIFEST_FILE):
        file, whole = path / name, (path / name).read_bytes()
        for put in (os.mkfifo, lambda file: file.symlink_to("/dev/zero"), Path.mkdir):
            file.unlink()
            put(file)
            assert read_row(path)["status"] == "damaged", (name, put)
            file.rmdir() if file.is_dir() else file.unlink()
            file.write_bytes(whole)
    assert read_run(path)["status"] == "done"


@pytest.mark.parametrize("name", ["../run.json", "/etc/passwd", "ledger/../../x", "ledger//x", "notes.txt"])
def test_a_manifest_names_no_file_but_a_run_s(name, tmp_path):
    path = make(tmp_path, True)
    manifest = json.loads((path / MANIFEST_FILE).read_text())
    manifest["files"][name] = manifest["files"]["run.json"]
    del manifest["root"]
    (path / MANIFEST_FILE).write_bytes(seal._with_root(manifest))
    assert "manifest.json is damaged" in read_run(path)["reason"]


def test_a_manifest_of_another_run_and_facts_of_another_are_named(tmp_path):
    path, other = make(tmp_path / "a", True), make(tmp_path / "b", True, batches=2)
    shutil.copy(other / MANIFEST_FILE, path / MANIFEST_FILE)
    assert "is not what the run wrote" in read_run(path)["reason"]
    killed = make(tmp_path / "c", False)
    info = json.loads((killed / "run.json").read_text())
    info["provenance"]["model"]["hash"] = "another"
    (killed / "run.json").write_bytes(encode_info(info))
    assert "altered (model)" in read_run(killed)["reason"]
    with pytest.raises(DamagedFile, match=r"altered \(model\)"):
        RunFolder.open(killed)


def test_a_chain_that_lost_its_end_is_named(tmp_path):
    path = make(tmp_path, False, batches=5)
    lines = (path / CHAIN_FILE).read_text().splitlines(keepends=True)
    (path / STATE_FILE).unlink()
    (path / CHAIN_FILE).write_text(lines[0])
    assert "the lines before batch 4 of edits.jsonl are missing" in read_run(path)["reason"]


@pytest.mark.parametrize("cuts", range(0, 12, 3))
def test_a_truncation_that_is_stopped_anywhere_leaves_a_run_that_goes_on(cuts, tmp_path, monkeypatch):
    path = make(tmp_path, False, batches=4)
    head = json.loads((path / CHAIN_FILE).read_text().splitlines()[1])["head"]
    write_tensors(path / STATE_FILE, {}, {"batches": 1, "head": head})
    calls, cut_to = [], seal.cut_to

    def stopped(*args):
        if len(calls) == cuts:
            raise KeyboardInterrupt
        calls.append(args)
        cut_to(*args)

    with monkeypatch.context() as patch, RunFolder.open(path) as folder:
        patch.setattr(seal, "cut_to", stopped)
        with pytest.raises(KeyboardInterrupt):
            folder.truncate_after(head)
    assert read_run(path)["status"] == "interrupted"
    with RunFolder.open(path) as folder:
        folder.truncate_after(head)
        assert (folder.head, len(folder.edits()), len(folder.scores())) == (head, 1, 2)
        assert len(LedgerFiles(folder.ledger).index()) == 1


def test_a_stop_between_manifest_and_status_is_an_interrupted_run(tmp_path, monkeypatch):
    from editbench.results import run_folder

    path = make(tmp_path, False)
    with monkeypatch.context() as patch, RunFolder.open(path) as folder:
        patch.setattr(run_folder, "write_atomic", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            folder.set_status("done")
    assert (path / MANIFEST_FILE).exists() and read_run(path)["status"] == "interrupted"
    with RunFolder.open(path) as folder:
        folder.set_status("done")
    assert read_run(path)["status"] == "done"


def test_an_ended_run_that_goes_on_loses_its_manifest_and_gets_another(tmp_path):
    path = make(tmp_path, True)
    with RunFolder.open(path) as folder:
        folder.set_status("running")
        assert not (path / MANIFEST_FILE).exists() and read_run(path)["status"] == "running"
        folder.append_scores([score_row("r1", 2, stage="final")])
        folder.set_status("failed", "on purpose")
    assert read_run(path)["status"] == "failed"


def test_a_damaged_run_is_removed_whole(tmp_path):
    path = make(tmp_path, True)
    (path / "run.json").write_text("{")
    RunFolder.remove(path)
    assert list(tmp_path.iterdir()) == []
    path = make(tmp_path, True)
    with RunFolder.open(path), pytest.raises(ResultsError, match="is being written"):
        RunFolder.remove(path)
    assert read_run(path)["status"] == "done"


def test_a_deletion_that_is_killed_anywhere_leaves_what_can_be_deleted_and_never_half_a_run(tmp_path, monkeypatch):
    moves = 0
    while True:
        path = make(tmp_path / f"{moves}", True)
        (path / "notes.txt").write_text("mine")
        with monkeypatch.context() as patch:
            if not killed_after(patch, moves, lambda path=path: RunFolder.remove(path)):
                break
        if moves:
            assert not is_run(path) or read_row(path)["status"] == "damaged"
            with pytest.raises(ResultsError, match="holds parts of a run|holds a run already"):
                RunFolder.create(path.parent, path.name, "seed: 0\n")
        RunFolder.remove(path)
        RunFolder.create(path.parent, path.name, "seed: 0\n").close()
        assert (path / "notes.txt").read_text() == "mine"
        moves += 1
    assert moves == 7 and (path / "notes.txt").exists() and not is_run(path)


def killed_after(patch, calls, work):
    """Whether ``work`` was killed: after so many files were moved."""
    left, replace = [None] * calls, Path.replace

    def killed(self, target):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return replace(self, target)

    patch.setattr(Path, "replace", killed)
    try:
        work()
    except KeyboardInterrupt:
        return True
    return False

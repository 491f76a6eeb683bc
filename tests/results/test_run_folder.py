"""A run folder survives crashes, damage and a second writer, and says what is wrong."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from editbench.files import lock
from editbench.results import ResultsError, RunFolder, run_folder
from editbench.results.run_folder import read_info
from editbench.results.schema import CHAIN_FILE, CONFIG_FILE, EDITS_FILE, MANIFEST_FILE, RUN_FILE, SCHEMA, SCORES_FILE


def score_row(record: str = "r0", batch: int = 0, **changes):
    row = {
        "stage": "immediate",
        "edits": batch + 1,
        "batch": batch,
        "record": record,
        "position": batch,
        "status": "scored",
        "scores": {"rewrite.exact_match": 1.0},
    }
    return row | changes


def edit_row(batch: int = 0):
    return {"batch": batch, "ids": [f"r{batch}"], "seconds": 0.5, "skipped": {}, "failed": {}, "losses": [[0.1]]}


@pytest.fixture
def store(tmp_path):
    with RunFolder.create(tmp_path, "run", "seed: 0\n", {"seed": 0}) as store:
        yield store


def reopened(store: RunFolder) -> RunFolder:
    store.close()
    return RunFolder.open(store.path)


# --- the ordinary life of a run ---


def test_a_run_is_created_written_ended_and_read_again(store):
    assert (store.path / "config.yaml").read_text() == "seed: 0\n"
    assert store.ledger.is_dir()
    assert store.info["status"] == "running" and store.info["ended"] is None
    store.append_scores([score_row("r0"), score_row("r1", stage="final")])
    store.append_scores(
        [{"stage": "final", "edits": 1, "batch": 0, "of": "perplexity.plain", "scores": {"perplexity": 3.3}}]
    )
    store.append_edit(edit_row())
    store.add_provenance({"model": {"hash": "abc"}})
    store.set_status("done", summary={"final": None}, costs={"edit_seconds": 0.5})
    with reopened(store) as again:
        assert again.repairs == ()
        assert [row.get("record", row.get("of")) for row in again.scores()] == ["r0", "r1", "perplexity.plain"]
        assert again.edits() == [edit_row()]
        assert again.info["provenance"] == {"schema": SCHEMA, "seed": 0, "model": {"hash": "abc"}}
        assert again.info["status"] == "done" and again.info["ended"] >= again.info["started"]
        assert again.info["summary"] == {"final": None} and again.info["costs"] == {"edit_seconds": 0.5}
        listed = sorted(json.loads((again.path / MANIFEST_FILE).read_text())["files"])
        assert listed == sorted([CHAIN_FILE, CONFIG_FILE, EDITS_FILE, RUN_FILE, SCORES_FILE])


def test_an_ended_run_takes_no_rows_until_it_runs_again(store):
    store.append_scores([score_row()])
    store.set_status("failed", "out of memory", summary={"final": None})
    for write in (
        lambda: store.append_scores([score_row()]),
        lambda: store.append_edit(edit_row()),
        lambda: store.truncate_after(""),
        lambda: store.seal(0),
    ):
        with pytest.raises(ResultsError, match="is failed; set_status"):
            write()
    store.set_status("running")
    assert (store.info["reason"], store.info["ended"], store.info["summary"]) == (None, None, None)
    assert not (store.path / MANIFEST_FILE).exists()
    store.append_scores([score_row("r1")])
    assert len(store.scores()) == 2


def test_truncate_after_drops_later_batches_of_both_files(store):
    store.append_scores([score_row("all", batch=-1, stage="before")])
    seals = [store.seal(-1)]
    for batch in range(4):
        store.append_scores([score_row(f"r{batch}", batch), score_row(f"s{batch}", batch)])
        store.append_edit(edit_row(batch))
        seals.append(store.seal(batch))
    store.truncate_after(seals[2])
    assert [row["record"] for row in store.scores()] == ["all", "r0", "s0", "r1", "s1"]
    assert [row["batch"] for row in store.edits()] == [0, 1] and store.head == seals[2]
    store.truncate_after(seals[2])
    store.append_edit(edit_row(2))
    assert [row["batch"] for row in store.edits()] == [0, 1, 2]
    store.truncate_after(seals[0])
    assert [row["record"] for row in store.scores()] == ["all"] and store.edits() == []
    with pytest.raises(ResultsError, match="has no line"):
        store.truncate_after(seals[2])
    store.truncate_after("")
    assert (store.scores(), store.head) == ([], "")


def test_a_run_stopped_while_it_scored_the_end_scores_the_end_again(store):
    store.append_scores([score_row("r0")])
    head = store.seal(0)
    store.append_scores([score_row("r0", stage="final")])
    store.truncate_after(head)
    store.append_scores([score_row("r0", stage="final"), score_row("r1", stage="final")])
    assert [(row["record"], row["stage"]) for row in store.scores()] == [
        ("r0", "immediate"),
        ("r0", "final"),
        ("r1", "final"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (score_row(stage="later"), "stage 'later'"),
        (score_row(status="fine"), "status 'fine'"),
        ({k: v for k, v in score_row().items() if k != "batch"}, "batch=None; Integral"),
        (score_row(scores=None), "scores=None"),
        (score_row(scores={"rewrite.nll": np.zeros(2)}), r"scores\.rewrite\.nll is a ndarray"),
        (score_row(scores={1: 2.0}), "key 1"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_nothing_is_written(store, row, message):
    with pytest.raises(ResultsError, match=message):
        store.append_scores([score_row(), row])
    assert store.scores() == []


# --- NaN, infinity and other values ---


def test_values_that_are_not_finite_become_null_and_are_named(store):
    scores = {"rewrite.nll": math.nan, "rewrite.exact_match": 0.0, "locality.nll": -math.inf}
    store.append_scores([score_row(scores=scores, probes=[{"nll": math.inf}])])
    line = (store.path / SCORES_FILE).read_text()
    row = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not strict JSON"))
    assert row["scores"] == {"rewrite.nll": None, "rewrite.exact_match": 0.0, "locality.nll": None}
    assert row["nonfinite"] == ["locality.nll", "probes.0.nll", "rewrite.nll"]
    store.set_status("done", costs={"edit_seconds": math.nan})
    assert store.info["costs"] == {"edit_seconds": None}


# --- crashes and damage ---


def test_a_failed_replace_leaves_the_old_content(store, monkeypatch):
    before = (store.path / RUN_FILE).read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ResultsError, match=r"cannot write .*manifest\.json: No space left on device"):
        store.set_status("done")
    assert (store.path / RUN_FILE).read_bytes() == before
    assert store.info["status"] == "running"
    assert not [path for path in store.path.iterdir() if path.suffix == ".tmp"]


@pytest.mark.parametrize("error", [None, OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_midway_through_appending_takes_the_part_back(store, monkeypatch, error):
    store.append_scores([score_row("r0")])
    before = (store.path / SCORES_FILE).read_bytes()
    write = os.write

    def write_a_part(descriptor, data):
        written = write(descriptor, data[: len(data) // 2])
        if error is not None:
            raise error
        return written

    monkeypatch.setattr(os, "write", write_a_part)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ResultsError):
        store.append_scores([score_row("r1"), score_row("r2")])
    monkeypatch.undo()
    assert (store.path / SCORES_FILE).read_bytes() == before
    store.append_scores([score_row("r1")])
    assert [row["record"] for row in store.scores()] == ["r0", "r1"]


@pytest.mark.parametrize("torn", [b'{"stage": "fin', b"\0\0\0", b'{"batch": 0}', b"\xff"])
def test_a_torn_last_line_is_cut_off_and_reported(store, caplog, torn):
    store.append_scores([score_row("r0")])
    with open(store.path / SCORES_FILE, "ab") as file:
        file.write(torn)
    assert len(store.scores()) == 1
    with reopened(store) as again:
        assert len(again.repairs) == 1 and f"({len(torn)} bytes)" in again.repairs[0]
        assert again.repairs[0] in caplog.text
        again.append_scores([score_row("r1")])
        assert [row["record"] for row in again.scores()] == ["r0", "r1"]
    with reopened(again) as third:
        assert third.repairs == ()


@pytest.mark.parametrize("damage", [b"{broken", b"[1]", b"", b"\xff\xfe", b'{"a": NaN}'])
def test_damage_before_the_last_line_is_an_error_with_file_and_line(store, damage):
    store.append_scores([score_row(f"r{index}") for index in range(3)])
    path = store.path / SCORES_FILE
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], damage, *lines[2:]]))
    with pytest.raises(ResultsError, match=r"scores\.jsonl, line 2: damaged"):
        reopened(store)
    path.write_bytes(b"\n".join(lines))
    with RunFolder.open(store.path) as again:  # the lock was let go
        assert len(again.scores()) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "damaged"),
        ("[]", "damaged"),
        ('{"format": 99}', "format 99, this editbench reads 2; read it with a later version"),
        ('{"format": 1, "status": "done"}', "format 1, .* read it with editbench 0.1, or 0.2.0.dev0 before format 2"),
        ('{"format": 2, "status": "done"}', "missing: "),
    ],
)
def test_a_damaged_run_file_is_an_error(store, text, message):
    (store.path / RUN_FILE).write_text(text)
    with pytest.raises(ResultsError, match=message):
        reopened(store)


KILLED = """
import os, signal, sys
from editbench.results import RunFolder
store = RunFolder.create(sys.argv[1], "run", "")
row = {"stage": "final", "edits": 1, "batch": 0, "position": 0, "status": "scored", "scores": {}}
print("ready", flush=True)
index = 0
while True:
    store.append_scores([{**row, "record": str(index), "reason": "x" * 5000}])
    index += 1
"""


def test_a_killed_writer_leaves_a_run_that_can_be_opened(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        while (tmp_path / "run" / SCORES_FILE).stat().st_size < 20_000:
            assert writer.poll() is None
        with pytest.raises(ResultsError, match=rf"is being written by process {writer.pid} on "):
            RunFolder.open(tmp_path / "run")
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    with RunFolder.open(tmp_path / "run") as store:
        rows = store.scores()
        assert [row["record"] for row in rows] == [str(index) for index in range(len(rows))] and len(rows) >= 3


# --- places that cannot be written, names that are no names, other writers ---


def test_a_second_writer_is_refused_with_its_holder_named(store):
    with pytest.raises(ResultsError, match=rf"is being written by process {os.getpid()} on .*; wait for it"):
        RunFolder.open(store.path)
    with pytest.raises(ResultsError, match="is being written"):
        RunFolder.create(store.path.parent, "run", "")
    store.append_scores([score_row()])
    with reopened(store) as again:
        assert len(again.scores()) == 1


def test_who_waits_for_the_lock_of_a_run_that_is_removed_keeps_it(store, monkeypatch):
    store.close()
    path, taken = store.path, []

    class Awaited:
        """A lock that another writer takes as soon as it is released."""

        def __init__(self, acquired):
            self.acquired = acquired

        def release(self):
            self.acquired.release()
            monkeypatch.undo()
            taken.append(RunFolder.create(path.parent, path.name, ""))

    monkeypatch.setattr(run_folder, "lock", lambda file: Awaited(lock(file)))
    assert RunFolder.remove(path)
    with taken[0], pytest.raises(ResultsError, match="is being written"):
        RunFolder.open(path)
    assert RunFolder.remove(path) and not path.exists()


def test_a_run_is_never_overwritten(store):
    store.append_scores([score_row()])
    store.close()
    with pytest.raises(ResultsError, match="holds a run already"):
        RunFolder.create(store.path.parent, "run", "")
    (store.path / RUN_FILE).unlink()
    with pytest.raises(ResultsError, match="holds a run already"):
        RunFolder.create(store.path.parent, "run", "")


def test_an_unfinished_creation_can_be_repeated(tmp_path):
    (tmp_path / "run" / "ledger").mkdir(parents=True)
    (tmp_path / "run" / SCORES_FILE).touch()
    with pytest.raises(ResultsError, match="holds no run"):
        RunFolder.open(tmp_path / "run")
    with RunFolder.create(tmp_path, "run", "") as store:
        assert store.info["status"] == "running"


@pytest.mark.parametrize("run_id", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\nb", "/tmp", "a\0b", "c:"])
def test_a_run_id_that_is_no_folder_name_is_refused(tmp_path, run_id):
    with pytest.raises(ResultsError, match="is not a folder name"):
        RunFolder.create(tmp_path, run_id, "")
    assert list(tmp_path.iterdir()) == []


def test_a_root_without_parent_is_refused_and_one_with_parent_is_made(tmp_path):
    with pytest.raises(ResultsError, match=r"missing is not a folder; make it first"):
        RunFolder.create(tmp_path / "missing" / "results", "run", "")
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"cannot make the folder .*file.*"):
        RunFolder.create(tmp_path / "file", "run", "")
    RunFolder.create(tmp_path / "results", "run", "").close()


def test_a_read_only_root_is_refused(tmp_path, monkeypatch):
    if os.geteuid() == 0:  # root may write anywhere

        def refuse(*_args, **_kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", refuse)
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(ResultsError, match=r"run: Permission denied; choose another results folder, or make"):
        RunFolder.create(tmp_path, "run", "")
    tmp_path.chmod(stat.S_IRWXU)


def _create(root, results):
    try:
        store = RunFolder.create(root, "run", "")
    except ResultsError as error:
        results.put(str(error))
    else:
        results.put("created")
        store.close()


def test_of_several_creators_of_one_run_one_wins(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_create, args=(tmp_path, results)) for _ in range(3)]
    for process in processes:
        process.start()
    outcomes = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert outcomes.count("created") == 1
    assert all("holds a run already" in text or "is being written" in text for text in outcomes if text != "created")
    assert read_info(tmp_path / "run")["status"] == "running"

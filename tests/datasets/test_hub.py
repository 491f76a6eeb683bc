"""Rows through Hugging Face's datasets, from local folders: no network is needed."""

import bz2
import gzip
import json
import lzma
import subprocess
import sys

import pytest

from editbench.datasets import load
from editbench.records import RecordError

ROWS = [{"prompt": f"Ann {i} was born in", "subject": f"Ann {i}", "target": "Rome"} for i in range(3)]
UNEVEN = [*ROWS, {"prompt": "Bo was born in", "target": "Oslo", "locality": [{"prompt": "Cy was", "target": "x"}]}]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    data = tmp_path / "data"
    data.mkdir()
    return data


def test_folder_has_the_content_of_its_file(folder):
    file = folder / "train.json"
    file.write_text(json.dumps(UNEVEN))
    loaded, direct = load("custom", folder), load("custom", file)
    assert loaded.records == direct.records
    assert loaded.fingerprint == direct.fingerprint


def test_the_file_of_a_folder_is_read_as_it_is(folder):
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, {"prompt": "x"}]))
    with pytest.raises(RecordError, match=r"train.jsonl:4: record '3', field 'target': is missing"):
        load("custom", folder)


def test_splits_are_told_apart(folder):
    for split, rows in (("train", ROWS), ("test", ROWS[:1])):
        (folder / f"{split}.json").write_text(json.dumps(rows))
    with pytest.raises(RecordError, match=r"several splits; give one of train, test as hub:.*@SPLIT"):
        load("custom", folder)
    with pytest.raises(RecordError, match="no split 'dev'"):
        load("custom", f"hub:{folder}@dev")
    assert len(load("custom", f"hub:{folder}@test")) == 1


@pytest.mark.parametrize("compress", [gzip, bz2, lzma])
def test_a_cut_off_file_of_a_folder_is_named(folder, compress):
    ending = {gzip: "gz", bz2: "bz2", lzma: "xz"}[compress]
    whole = compress.compress(json.dumps(ROWS).encode())
    (folder / f"a.json.{ending}").write_bytes(whole)
    (folder / f"b.json.{ending}").write_bytes(whole[:-5])
    with pytest.raises(RecordError, match=f"b.json.{ending}: the file is cut off; get it again"):
        load("custom", folder)


def test_a_folder_with_files_of_several_kinds_is_refused(folder):
    (folder / "a.json").write_text(json.dumps(ROWS))
    for name in ("README.txt", "dataset_infos.json", ".b.csv", "._a.json"):
        (folder / name).write_text("{}")
    assert len(load("custom", f"hub:{folder}")) == 3
    (folder / "b.csv.gz").write_text("")
    for path in (folder, f"hub:{folder}"):
        if path == folder:
            (folder / "c.jsonl").write_text("")
        with pytest.raises(RecordError, match=r"files of several kinds, a.json \(JSON\), b.csv.gz \(CSV\); give one"):
            load("custom", path)


def test_unreadable_folder_says_so(folder):
    with pytest.raises(RecordError, match="datasets cannot load it"):
        load("custom", folder)


def test_offline_says_how_to_go_on(folder, monkeypatch):
    def unreachable(*args):
        raise ConnectionError("no route")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(RecordError, match=r"hub:owner/name@test: .*offline.*no route.*give its path instead"):
        load("custom", "hub:owner/name@test")


def test_name_config_and_split_are_read(folder, monkeypatch):
    asked = []

    def fake(*args):
        asked.append(args)
        return {"test": ROWS, "train": []}

    monkeypatch.setattr("datasets.load_dataset", fake)
    assert len(load("custom", "hub:owner/name:small@test")) == 3
    assert asked == [("owner/name", "small")]
    with pytest.raises(RecordError, match="there is no record in it"):
        load("custom", "hub:owner/name@train")


@pytest.mark.parametrize("address", ["hub:", "hub:@test", "hub:a:b:c", "hub:a@b@c", "hub:a:"])
def test_malformed_address(address):
    with pytest.raises(RecordError, match=r"write hub:NAME\[:CONFIG\]\[@SPLIT\]"):
        load("custom", address)


@pytest.mark.slow
def test_importing_is_light():
    code = "import sys, editbench.datasets, editbench.stream; print({'torch', 'datasets'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"

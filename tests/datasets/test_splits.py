"""Each data set is split once, by subject: by place in published files, by hash in others, by groups in the world."""

import hashlib
import json
from dataclasses import replace

import pytest

from editbench.datasets import load, splits
from editbench.datasets.base import Settings
from editbench.datasets.counterfact import COUNTERFACT
from editbench.datasets.custom import CUSTOM
from editbench.datasets.loading import load_dataset
from editbench.records import RecordError, Split
from editbench.words import folded
from tests.datasets.rows import EASYEDIT, write

SMALL = replace(COUNTERFACT, reserved=4)  # published from 16 records on


def rows(subjects):
    return [
        {**EASYEDIT, "case_id": i, "subject": name, "prompt": f"The mother tongue of {name} is"}
        for i, name in enumerate(subjects)
    ]


def ids(path, split, dataset=SMALL, **how):
    return [int(record.id) for record in load_dataset(dataset, path, Settings(), split=split, **how).records]


def test_the_last_records_of_a_published_file_are_never_streamed(tmp_path):
    path = write(tmp_path, rows(f"Ann {i}" for i in range(16)))
    assert ids(path, None) == ids(path, "stream") == list(range(12))
    assert ids(path, "tune") == [12, 13] and ids(path, "train") == [14, 15]
    assert ids(path, "all") == list(range(16))
    assert ids(path, None, limit=3) == [0, 1, 2] and ids(path, "tune", limit=1) == [12]
    loaded = load_dataset(SMALL, path, Settings())
    assert loaded.split == Split("stream", "the last 4 records are never streamed", 0)


def test_records_that_share_a_subject_with_another_split_are_left_out_and_counted(tmp_path):
    names = [f"Ann {i}" for i in range(16)]
    names[0], names[5], names[12] = "ANN  13", "Ann 15", "Ann 14"  # of tune, of train, and of train in tune
    path = write(tmp_path, rows(names))
    assert ids(path, "stream") == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert ids(path, "tune") == [13] and ids(path, "train") == [14, 15]
    assert load_dataset(SMALL, path, Settings()).split.shared == 3


def test_a_small_file_is_the_users_own(tmp_path):
    path = write(tmp_path, rows(f"Ann {i}" for i in range(15)))
    assert ids(path, None) == ids(path, "all") == list(range(15))
    assert load_dataset(SMALL, path, Settings()).split == Split("all")
    parts = [ids(path, name) for name in ("stream", "tune") if name]
    assert not set(parts[0]) & set(parts[1])


def test_a_users_file_is_split_by_the_hash_of_the_subject(tmp_path):
    names = [f"Person {i % 150}" for i in range(300)]
    names[7] = "PERSON   7"
    path = write(tmp_path, [{"prompt": f"{name} plays", "subject": name, "target": "chess"} for name in names])
    found = {name: ids(path, name, CUSTOM) for name in splits.SPLITS}
    assert sorted(sum(found.values(), [])) == list(range(300)) == ids(path, None, CUSTOM)
    for i, name in enumerate(names):
        tenth = int(hashlib.sha256(folded(name).encode()).hexdigest()[:8], 16) % 10
        assert i in found["tune" if tenth == 0 else "train" if tenth == 1 else "stream"]
    assert all(len({i % 150 for i in found[a]} & {i % 150 for i in found[b]}) == 0 for a, b in PAIRS)


PAIRS = (("stream", "tune"), ("stream", "train"), ("tune", "train"))


def test_a_record_without_a_subject_goes_by_its_prompt(tmp_path):
    path = write(tmp_path, [{"prompt": f"Question {i}:", "target": "yes"} for i in range(60)])
    found = [set(ids(path, name, CUSTOM)) for name in splits.SPLITS]
    assert all(found) and sorted(set().union(*found)) == list(range(60)) and sum(map(len, found)) == 60


def test_a_split_without_records_is_refused(tmp_path):
    path = write(tmp_path, [{"prompt": "Ann was born in", "subject": "Ann", "target": "Rome"}])
    with pytest.raises(RecordError, match="no record belongs to the split tune \\(by the subject's hash\\)"):
        load("custom", path, split="tune")
    with pytest.raises(ValueError, match="dataset.split is 'test'; it must be one of 'stream', 'tune', 'train', 'all'"):
        load("custom", path, split="test")


def test_a_bad_row_counts_for_the_place_and_is_an_error_only_in_its_own_split(tmp_path):
    raw = rows(f"Ann {i}" for i in range(16))
    raw[13]["target_new"] = ""
    path = write(tmp_path, raw)
    assert ids(path, "stream") == list(range(12)) and ids(path, "train") == [14, 15]
    with pytest.raises(RecordError, match=r"record '13', field 'target_new': is empty; correct the record"):
        ids(path, "tune")
    assert ids(path, "tune", on_error="skip") == [12]


def test_a_setting_of_the_dataset_moves_no_record_to_another_split(tmp_path):
    """A record with nothing to edit has its place, whether it is edited or not."""
    raw = rows(f"Ann {i}" for i in range(16))
    raw[15]["target_new"] = raw[15]["ground_truth"]
    path = write(tmp_path, raw)
    assert ids(path, "stream") == list(range(12)) and ids(path, "tune") == [12, 13] and ids(path, "train") == [14]


@pytest.mark.parametrize("name", ["counterfact", "zsre", "hallucination"])
def test_the_splits_of_the_embedded_world_share_no_subject(name):
    subjects = {}
    for split in splits.SPLITS:
        loaded = load(name, "pocket", split=split)
        assert loaded.split.name == split and loaded.split.rule
        subjects[split] = {record.request.subject for record in loaded.records}
        assert len(subjects[split]) == len(loaded)
    assert all(not subjects[a] & subjects[b] for a, b in PAIRS)
    assert {r.request.subject for r in load(name, "pocket").records} == subjects["stream"]
    assert {r.request.subject for r in load(name, "pocket", split="all").records} == set().union(*subjects.values())


def test_the_published_files_have_their_reserve():
    from editbench.datasets import find

    reserved = {name: find(name).reserved for name in ("counterfact", "zsre", "hallucination", "custom")}
    assert reserved == {"counterfact": 1000, "zsre": 100, "hallucination": 100, "custom": 0}


def test_rows_beyond_the_limit_are_not_read_where_no_split_is_asked_for(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "Ann was born in", "target": "Rome"}) + "\n{broken")
    assert len(load("custom", path, limit=1)) == 1

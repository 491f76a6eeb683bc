"""The folder that takes its place when it is whole."""

import hashlib
import json

import pytest

from editbench.fetch.staging import install, staging
from editbench.fetched import fetched_folder, read_source
from editbench.files import ResultsError


def make(folder, text):
    made = folder / "made"
    made.mkdir()
    (made / "weights").write_text(text)
    return made


def test_a_folder_is_installed_with_its_facts_and_replaces_an_older_one():
    for text in ("first", "second"):
        with staging("thing") as folder:
            (folder / "download.whl").write_bytes(b"")
            place = install("thing", make(folder, text), {"source": text, "licence": "ÜL"})
        assert place == fetched_folder("thing")
        assert (place / "weights").read_text() == text
        files = {"weights": hashlib.sha256(text.encode()).hexdigest()}
        assert read_source(place) == {"source": text, "licence": "ÜL", "files": files}
        assert [file.name for file in folder.iterdir()] == ["lock"]


def test_what_is_half_made_is_kept_for_the_next_and_in_no_place():
    with pytest.raises(KeyboardInterrupt), staging("thing") as folder:
        make(folder, "half")
        raise KeyboardInterrupt
    assert not fetched_folder("thing").exists()
    with staging("thing") as folder:
        assert (folder / "made" / "weights").exists()


def test_two_processes_do_not_fetch_one_thing():
    with staging("thing"), pytest.raises(ResultsError, match="is being written by"), staging("thing"):
        pass


def test_a_damaged_source_file_is_named(tmp_path):
    assert read_source(tmp_path) == {}
    (tmp_path / "source.json").write_text("{")
    with pytest.raises(ValueError, match="source.json is damaged"):
        read_source(tmp_path)
    (tmp_path / "source.json").write_text(json.dumps([1]))
    assert read_source(tmp_path) == {}

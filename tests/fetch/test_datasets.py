"""Published data files: pinned, or pinned by the first one that was fetched."""

import hashlib
import json
from dataclasses import replace

import pytest

from editbench import datasets
from editbench.fetch.datasets import SOURCES, fetch_dataset
from editbench.fetch.download import DownloadError
from editbench.fetched import DATASETS, NotFetchedError, read_source
from tests.datasets.rows import EASYEDIT

ROWS = [EASYEDIT]
CONTENT = json.dumps(ROWS).encode()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def published(server, monkeypatch):
    """CounterFact on the local server, by a source that does not know its digest."""
    server.files["/counterfact.json"] = CONTENT
    source = replace(SOURCES["counterfact"], url=f"{server.url}/counterfact.json", sha256=None)
    monkeypatch.setitem(SOURCES, "counterfact", source)
    return server


def pin(monkeypatch, sha256):
    monkeypatch.setitem(SOURCES, "counterfact", replace(SOURCES["counterfact"], sha256=sha256))


def test_every_data_set_has_a_file_and_a_source():
    assert SOURCES.keys() == DATASETS.keys()
    assert all(source.url.startswith("https://") and source.licence for source in SOURCES.values())


def test_what_was_fetched_is_what_is_loaded(published):
    with pytest.raises(NotFetchedError, match="editbench fetch counterfact"):
        datasets.load("counterfact", "fetched")
    place = fetch_dataset("counterfact")
    assert (
        datasets.load("counterfact", "fetched").fingerprint
        == datasets.load("counterfact", place / "counterfact.json").fingerprint
    )
    facts = read_source(place)
    assert (facts["sha256"], facts["records"], facts["pinned"]) == (SHA256, 1, "when it was first fetched")
    assert facts["licence"] == "MIT (kmeng01/rome)"


def test_the_first_file_pins_the_later_ones(published):
    fetch_dataset("counterfact")
    published.files["/counterfact.json"] = json.dumps([*ROWS, {**ROWS[0], "case_id": 9}]).encode()
    with pytest.raises(DownloadError, match="was recorded when counterfact was first fetched"):
        fetch_dataset("counterfact")
    assert len(datasets.load("counterfact", "fetched")) == 1


def test_a_known_digest_is_asked_for(published, monkeypatch):
    pin(monkeypatch, "00")
    with pytest.raises(DownloadError, match="and 00 was expected.*--from FILE"):
        fetch_dataset("counterfact")
    pin(monkeypatch, SHA256)
    assert read_source(fetch_dataset("counterfact"))["pinned"] == "by editbench"


def test_a_local_file_of_the_same_digest_is_accepted(published, monkeypatch, tmp_path):
    pin(monkeypatch, SHA256)
    (tmp_path / "mine.json").write_bytes(CONTENT)
    (tmp_path / "other.json").write_bytes(CONTENT + b" ")
    with pytest.raises(DownloadError, match="the published file has"):
        fetch_dataset("counterfact", tmp_path / "other.json")
    fetch_dataset("counterfact", tmp_path / "mine.json")
    assert published.asked == []
    assert len(datasets.load("counterfact", "fetched")) == 1


def test_a_file_of_something_else_is_not_installed(published):
    published.files["/counterfact.json"] = b"<html>please log in</html>"
    with pytest.raises(ValueError, match="expected a JSON array"):
        fetch_dataset("counterfact")
    with pytest.raises(NotFetchedError):
        datasets.load("counterfact", "fetched")


def test_hallucination_is_read_from_its_parquet(server, monkeypatch):
    import io

    import pandas as pd

    row = {
        "gpt3_sentences": ["Ada Lovelace was a poet.", "She wrote."],
        "annotation": ["minor_inaccurate", "accurate"],
        "wiki_bio_text": "Ada Lovelace was a mathematician. She wrote notes.",
        "gpt3_text": "Ada Lovelace was a poet. She wrote.",
        "wiki_bio_test_idx": 62,
    }
    file = io.BytesIO()
    pd.DataFrame([row]).to_parquet(file)
    server.files["/evaluation.parquet"] = file.getvalue()
    source = replace(SOURCES["hallucination"], url=f"{server.url}/evaluation.parquet")
    monkeypatch.setitem(SOURCES, "hallucination", source)
    fetch_dataset("hallucination")
    records = datasets.load("hallucination", "fetched")
    assert [record.request.target for record in records.records] == ["Ada Lovelace was a mathematician."]


def test_only_known_data_sets_can_be_fetched_ones():
    with pytest.raises(ValueError, match="custom cannot be fetched"):
        datasets.load("custom", "fetched")

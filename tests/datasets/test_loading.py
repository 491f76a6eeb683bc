"""Datasets by name, texts, unrelated questions, fingerprints; the embedded world and the published files."""

import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from editbench import plugins
from editbench.datasets import find, from_config, load
from editbench.datasets.splits import SPLITS
from editbench.records import UNRELATED, EditRequest, Passage, Probe, RecordError
from tests.datasets.rows import EASYEDIT, HUB, MEND, ROME, SCEN, WISE, write


def test_nothing_left_is_an_error(tmp_path):
    path = write(tmp_path, [{"prompt": "a"}, {"prompt": "b"}])
    with pytest.raises(RecordError, match=rf"no record is left, 2 were skipped; the first at {path}:2: .*'target'"):
        load("custom", path, on_error="skip")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("conterfact", {}, "unknown dataset 'conterfact'; did you mean 'counterfact'"),
        ("zsre", {"nq_prefx": "keep"}, "unknown setting of zsre 'nq_prefx'; did you mean 'nq_prefix'"),
        (
            "counterfact",
            {"colour": "x"},
            "unknown setting of counterfact 'colour'; known: chat_template, encoding, fields, paraphrases",
        ),
        ("zsre", {"target": "pred"}, "target is 'pred'; it must be one of 'alt', 'answers'"),
        ("zsre", {"nq_prefix": True}, "nq_prefix is True; it must be one of 'strip', 'keep'"),
        ("zsre", {"on_error": "ignore"}, "on_error is 'ignore'; it must be one of 'raise', 'skip'"),
        ("zsre", {"limit": 0}, "limit is 0; it must be a whole number from 1"),
        ("custom", {"path": "pocket"}, "the embedded world has no custom records"),
    ],
)
def test_wrong_settings(name, settings, message):
    with pytest.raises(ValueError, match=message):
        load(name, **{"path": "nowhere.json", **settings})


def test_every_dataset_is_found_under_its_name():
    names = list(plugins.entry_points(plugins.DATASETS))
    assert {"counterfact", "zsre", "hallucination", "custom"} <= set(names)
    assert [find(name).name for name in names] == names


def test_a_configuration_loads_what_the_call_loads(tmp_path):
    path = write(tmp_path, [MEND, {**MEND, "alt": ""}, MEND])
    config = SimpleNamespace(
        name="zsre", path=path, limit=2, on_error="skip", split=None, settings=find("zsre").settings(nq_prefix="keep")
    )
    loaded = from_config(config, None)
    assert loaded == load("zsre", path, limit=2, on_error="skip", nq_prefix="keep")
    assert len(loaded) == 2 and len(loaded.skipped) == 1
    config.settings = None
    assert from_config(config, None) == load("zsre", path, limit=2, on_error="skip")
    config.on_error = "ignore"
    with pytest.raises(ValueError, match="on_error is 'ignore'"):
        from_config(config, None)


def test_texts(tmp_path):
    path = write(tmp_path, [HUB])
    accurate = write(
        tmp_path, [{"text": "About x. ", "labels": " X is.", "concept": "x"}], "hallucination_accurate.json"
    )
    plain = tmp_path / "plain.txt"
    plain.write_text("one\n\ntwo\n")
    loaded = load("hallucination", path, accurate_path=accurate, plain_path=str(plain))
    assert loaded.texts["accurate"] == (Passage("About x.", "X is."),)
    assert loaded.texts["plain"] == (Passage("", "one"), Passage("", "two"))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Who?", "target": "Me"},
        {"question": "Who?", "answer": "Me"},
        {"src": "Who?", "answers": ["Me", "I"]},
        {"text": "Who?", "labels": "Me"},
    ],
)
def test_unrelated_questions(tmp_path, row):
    path = write(tmp_path, [SCEN])
    questions = write(tmp_path, [row], "questions.jsonl")
    loaded = load("zsre", path, unrelated_path=questions, prompt_format="[INST]{}[/INST]")
    assert loaded.unrelated == (Probe(UNRELATED, "[INST]Who?[/INST]", "Me"),)
    assert loaded.fingerprint != load("zsre", path, prompt_format="[INST]{}[/INST]").fingerprint


def test_bad_unrelated_questions(tmp_path):
    path = write(tmp_path, [SCEN])
    questions = write(tmp_path, [{"src": "Who?", "answers": []}, {"src": "Who?", "answers": ["Me"]}], "q.jsonl")
    with pytest.raises(RecordError, match=r"q\.jsonl:1: .*'answers': is an empty list"):
        load("zsre", path, unrelated_path=questions)
    loaded = load("zsre", path, unrelated_path=questions, on_error="skip")
    assert len(loaded.unrelated) == len(loaded.skipped) == 1


def test_unrelated_questions_of_the_pocket_are_about_nobody_edited():
    loaded = load("zsre", "pocket", unrelated_path="pocket")
    assert len(loaded.unrelated) == 100 and load("zsre", "pocket").unrelated == ()
    subjects = {record.request.subject for record in loaded.records}
    assert not any(subject in probe.prompt for probe in loaded.unrelated for subject in subjects)


def test_sibling_files_are_not_picked_up(tmp_path):
    write(tmp_path, [{"text": "t", "labels": "l"}], "hallucination_accurate.json")
    write(tmp_path, [{"text": "t"}], "openwebtext.json")
    assert dict(load("hallucination", write(tmp_path, [WISE], "hallucination.json")).texts) == {}


def test_bad_texts(tmp_path):
    path, plain = write(tmp_path, [SCEN]), write(tmp_path, [{"text": "t"}, {"txt": "u"}], "plain.jsonl")
    with pytest.raises(RecordError, match=r"plain\.jsonl:2: .*'text': is missing"):
        load("zsre", path, plain_path=plain)
    assert len(load("zsre", path, plain_path=plain, on_error="skip").skipped) == 1
    with pytest.raises(RecordError, match="no text is left, 1 were skipped"):
        load("zsre", path, plain_path=write(tmp_path, [{"no": "text"}], "none.jsonl"), on_error="skip")
    with pytest.raises(RecordError, match="no such file"):
        load("zsre", path, plain_path=tmp_path / "missing.txt")


def test_fingerprint_is_of_the_content(tmp_path):
    rows = [EASYEDIT, ROME]
    array = load("counterfact", write(tmp_path, rows))
    lines = load("counterfact", write(tmp_path, rows, "rows.jsonl"))
    assert array.records == lines.records
    assert array.fingerprint == lines.fingerprint
    assert len(array.fingerprint) == 64
    others = [
        load("counterfact", write(tmp_path, rows[::-1])),
        load("counterfact", write(tmp_path, rows), limit=1),
        load("counterfact", write(tmp_path, rows), plain_path=write(tmp_path, [{"text": "t"}], "plain.json")),
        load("counterfact", write(tmp_path, [{**EASYEDIT, "locality_ground_truth": "Danish"}, ROME])),
    ]
    assert len({array.fingerprint, *(other.fingerprint for other in others)}) == 5


@pytest.mark.parametrize("name", ["counterfact", "zsre", "hallucination"])
def test_pocket(name):
    pytest.importorskip("editbench.pocket.dataset_files")
    loaded = load(name, "pocket")
    assert loaded.name == name
    assert len(loaded) >= 100
    assert not loaded.ignored
    assert loaded.texts["plain"]
    assert loaded.texts["accurate"]
    assert loaded.fingerprint == load(name, "pocket").fingerprint
    assert loaded.fingerprint != load(name, "pocket", pocket_seed=1).fingerprint


@pytest.fixture
def published():
    folder = Path(os.environ.get("EDITBENCH_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (folder / "counterfact.json").is_file():
        pytest.skip(f"no benchmark files in {folder}; point EDITBENCH_DATA to them")
    return folder


def test_published_counterfact(published):
    loaded = load("counterfact", published / "counterfact.json", split="all")
    assert len(loaded) == 4000
    sizes = {part: len(load("counterfact", published / "counterfact.json", split=part)) for part in SPLITS}
    assert sizes == {"stream": 2963, "tune": 499, "train": 500}  # 38 share a subject with another split
    assert Counter(why for record in loaded.records for why in record.left_out) == {
        "paraphrase: is the edited prompt": 9
    }
    request = loaded.records[0].request
    assert (request.subject, request.target, request.target_true) == ("Danielle Darrieux", "English", "French")


def test_published_zsre(published):
    path = published / "zsre.json"
    with pytest.raises(RecordError, match=r"zsre\.json:6964: record '534', field 'alt': is empty"):
        load("zsre", path, split="all")
    loaded = load("zsre", path, on_error="skip", split="all")
    true_already = [skip for skip in loaded.skipped if "is a true one already" in skip.reason]
    assert (len(loaded), len(loaded.skipped)) == (584, 16)
    assert len(true_already) == 15  # 13 have the first of the true answers, 2 another
    assert len(load("zsre", path, target="answers", split="all")) == 600
    assert len(load("zsre", path, target="answers")) == 499  # one shares its subject with a reserved record
    assert all(not record.probes[1].prompt.startswith("nq question") for record in loaded.records)


def test_published_hallucination(published):
    loaded = load(
        "hallucination",
        published / "hallucination.json",
        split="all",
        accurate_path=published / "hallucination_accurate.json",
        plain_path=published / "openwebtext.json",
    )
    assert len(loaded) == 400
    assert {name: len(texts) for name, texts in loaded.texts.items()} == {"accurate": 300, "plain": 120}
    assert sum(record.probes[0].target is None for record in loaded.records) == 6


@pytest.mark.parametrize(("name", "sentences"), [("counterfact", False), ("zsre", False), ("hallucination", True)])
def test_a_dataset_says_whether_its_targets_are_sentences(name, sentences):
    assert load(name, "pocket", limit=1).sentences is sentences


ROWS = [{"prompt": "Rome is in", "target": "France", "subject": "Rome"}, {"prompt": "Lyon is in", "target": "Italy"}]


def test_records_are_given_as_dictionaries_as_records_or_alone():
    whole = load("custom", ROWS)
    assert [record.request.target for record in whole] == ["France", "Italy"] and whole[1].request.subject is None
    for given in (iter(ROWS), whole, list(whole), [record.request for record in whole]):
        assert load("custom", given).fingerprint == whole.fingerprint
    assert load("custom", ROWS[0]).records == load("custom", whole[0]).records == whole.records[:1]
    assert load("custom", whole[0].request).records == whole.records[:1]
    assert load("custom", whole, limit=1).records == whole.records[:1]
    (formatted, _) = load("custom", whole, prompt_format="[{}]")
    assert formatted.request.prompt == "[Rome is in]"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (pd.DataFrame(ROWS), r'records are no DataFrame; give its rows as dictionaries: table.to_dict\("records"\)'),
        ("", "the path of the records is empty; give a file"),
        (" ", "the path of the records is empty; give a file"),
        (None, "records cannot be read from NoneType; give a path"),
        (5, "records cannot be read from int; give a path, or a list of dictionaries"),
        ([EditRequest("a", "b", None, "c"), EditRequest("a", "d", None, "e")], "two records have the id 'a'"),
        ([ROWS[0], EditRequest("a", "b", None, "c")], r"records\[1\]: a record must be an object"),
    ],
)
def test_what_is_no_record_is_refused(given, why):
    with pytest.raises((TypeError, ValueError), match=why):
        load("custom", given)

"""The layouts of Hallucination."""

import pytest

from editbench.datasets import load
from editbench.datasets.hallucination import split_sentences
from editbench.records import EditRequest, Passage, Probe, RecordError
from tests.datasets.rows import HUB, WISE, one, write


def test_hallucination_wise(tmp_path):
    record = one(tmp_path, "hallucination", WISE)
    prompt = "This is a Wikipedia passage about ann lee. Ann Lee was a baker."
    assert record.request == EditRequest("0", prompt, "ann lee", "She lived in Rome.")
    assert record.probes == (Probe("locality", "Some text from the w", "eb, and more"),)


def test_hallucination_without_a_locality_answer(tmp_path):
    assert one(tmp_path, "hallucination", {**WISE, "locality_ground_truth": ""}).probes[0].target is None


def test_hallucination_hub(tmp_path):
    path = write(tmp_path, [HUB])
    loaded = load("hallucination", path)
    header = "This is a Wikipedia passage about Ann Lee."
    before = f"{header} Ann Lee (born 1900) was a baker."
    assert [record.request for record in loaded.records] == [
        EditRequest("0.0", header, "Ann Lee", "Ann B. Lee was a miller, Dr. Ek says."),
        EditRequest("0.2", f"{before} She lived in Oslo.", "Ann Lee", "She had a cat."),
    ]
    assert loaded.texts["accurate"] == (Passage(before, "She lived in Oslo."),)
    (skip,) = loaded.skipped
    assert skip.where == f"{path}:2"
    assert "'0.3': sentence 3 is inaccurate, but wiki_bio_text has only 3" in skip.reason


def test_hallucination_hub_takes_the_concept_of_the_row(tmp_path):
    assert one(tmp_path, "hallucination", {**HUB, "concept": "ann lee baker"}).request.subject == "ann lee baker"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotation": ["accurate"]}, "'annotation': has 1 labels for 4 sentences"),
        ({"annotation": ["accurate", "wrong", "accurate", "accurate"]}, r"'annotation\[1\]': is 'wrong', none of"),
        ({"gpt3_sentences": ["Nobody knows."] * 4}, "'gpt3_sentences': .*add the field 'concept'"),
    ],
)
def test_hallucination_hub_errors(tmp_path, change, message):
    with pytest.raises(RecordError, match=message):
        load("hallucination", write(tmp_path, [{**HUB, **change}]))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One here. Two here! Three?", 3),
        ("J. R. Smith, Jr. was born in Washington, D.C. in 1900. He died.", 2),
        ('He said "Never." Then he left. In 2000.', 3),
        ("v. small text without capitals. still one", 1),
        ("  ", 0),
    ],
)
def test_sentences(text, count):
    assert len(split_sentences(text)) == count

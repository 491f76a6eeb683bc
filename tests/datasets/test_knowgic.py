"""KnowGIC and MQuAKE: chains of facts."""

import pytest

from editbench.datasets import load
from editbench.records import EditRequest, Probe, RecordError
from tests.datasets.rows import one, write

EDIT = {
    "prompt": "{}'s child is",
    "target_new": {"str": "Alessandra"},
    "target_true": {"str": "Chelsea"},
    "subject": "Hillary",
}
PART = {"questions": ["Who?"], "answers": ["Aidan"], "prompts": ["{} has grandchild"], "subjects": ["Hillary"]}
KNOWGIC = {
    "case_id": 3,
    "requested_rewrite": [EDIT],
    "chain": PART,
    "broader_context": {**PART, "subjects": ["Bill"]},
}
MQUAKE = {
    "case_id": 4,
    "requested_rewrite": [{**EDIT, "question": "Who is Hillary's child?"}, {**EDIT, "prompt": "{} was born in"}],
    "questions": ["Where was Hillary's child born?", "The birthplace of Hillary's child is?"],
    "answer": "Little Rock",
    "new_answer": "Rome",
    "new_answer_alias": ["Roma"],
    "orig": {},
}


def test_knowgic(tmp_path):
    record = one(tmp_path, "knowgic", KNOWGIC)
    assert record.request == EditRequest("3", "Hillary's child is", "Hillary", "Alessandra", "Chelsea")
    assert record.probes == (
        Probe("locality", "Bill has grandchild", "Aidan"),
        Probe("chain", "Hillary has grandchild", "Aidan"),
    )


def test_the_questions_over_several_facts_come_with_the_last_edit(tmp_path):
    first, last = load("knowgic", write(tmp_path, [MQUAKE])).records
    assert (first.id, last.id) == ("4.0", "4.1")
    assert first.probes == (Probe("paraphrase", "Who is Hillary's child?", "Alessandra"),)
    assert last.probes == tuple(Probe("multi_hop", text, "Rome", ("Roma",)) for text in MQUAKE["questions"])


def test_lists_that_do_not_match_are_an_error(tmp_path):
    with pytest.raises(RecordError, match=r"'chain.prompts': are 1, for 2 subjects and 1 answers"):
        one(tmp_path, "knowgic", {**KNOWGIC, "chain": {**PART, "subjects": ["Hillary", "Bill"]}})
    with pytest.raises(RecordError, match="'requested_rewrite': is empty"):
        one(tmp_path, "knowgic", {**KNOWGIC, "requested_rewrite": []})

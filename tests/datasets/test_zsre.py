"""The layouts of ZsRE."""

import pytest

from editbench.datasets import load
from editbench.records import EditRequest, Probe
from tests.datasets.rows import MEND, SCEN, one, write


@pytest.mark.parametrize(
    ("settings", "target", "target_true", "question"),
    [
        ({}, "aircraft", "uniform", "who sang it?"),
        ({"target": "answers"}, "uniform", None, "who sang it?"),
        ({"nq_prefix": "keep"}, "aircraft", "uniform", "nq question: who sang it?"),
    ],
)
def test_zsre_mend(tmp_path, settings, target, target_true, question):
    record = one(tmp_path, "zsre", MEND, **settings)
    assert record.request == EditRequest("0", "What is made by UniFirst?", "UniFirst", target, target_true)
    assert record.probes == (
        Probe("paraphrase", "What does UniFirst make?", target),
        Probe("locality", question, "Bo Ek"),
    )


def test_zsre_question_mark_is_not_doubled(tmp_path):
    assert one(tmp_path, "zsre", {**MEND, "loc": "nq question: why? "}).probes[-1].prompt == "why?"


@pytest.mark.parametrize("empty", ["", None, " "])
def test_empty_questions_are_none(tmp_path, empty):
    assert one(tmp_path, "zsre", {**MEND, "rephrase": empty, "loc": empty, "loc_ans": empty}).probes == ()


def test_zsre_scen(tmp_path):
    records = load("zsre", write(tmp_path, [SCEN, {"Q": "Why?", "A": "So"}])).records
    assert records[0].request == EditRequest("0", "Who made it?", None, "Ann")
    assert records[0].probes == (Probe("paraphrase", "It was made by whom?", "Ann"),)
    assert (records[1].request, records[1].probes) == (EditRequest("1", "Why?", None, "So"), ())


@pytest.mark.parametrize("empty", ["", None])
def test_the_answer_to_no_question_is_named_without_a_hint(empty):
    loaded = load("zsre", [{**MEND, "loc": empty}])
    assert list(loaded.ignored) == ["loc_ans"] and not loaded[0].left_out

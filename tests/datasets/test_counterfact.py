"""The layouts of CounterFact."""

import pytest

from editbench.datasets import load
from editbench.records import EditRequest, Probe, RecordError
from tests.datasets.rows import EASYEDIT, ROME, one, write


def test_counterfact_easyedit(tmp_path):
    record = one(tmp_path, "counterfact", EASYEDIT)
    assert record.request == EditRequest("11", "The mother tongue of Ann Lee is", "Ann Lee", "English", "French")
    assert record.probes == (
        Probe("paraphrase", "Ann Lee speaks", "English"),
        Probe("locality", "Bo Ek speaks", "Swedish"),
    )


def test_counterfact_rome(tmp_path):
    record = one(tmp_path, "counterfact", ROME)
    assert record.request == EditRequest("12", "The mother tongue of Ann Lee is", "Ann Lee", "English", "French")
    assert record.probes == (
        Probe("paraphrase", "Ann Lee speaks", "English"),
        Probe("paraphrase", "Home. Ann Lee's language is", "English"),
        Probe("locality", "Bo Ek speaks", "French"),
        Probe("locality", "Cy Or speaks", "French"),
        Probe("subject_fact", "Ann Lee works as a", "baker"),
    )


def test_the_place_for_the_subject_is_filled_by_it_and_says_which_occurrence_it_is(tmp_path):
    rewrite = {**ROME["requested_rewrite"], "prompt": "Ann read what {} wrote to", "subject": "Ann "}
    request = one(tmp_path, "counterfact", {**ROME, "requested_rewrite": rewrite}).request
    assert (request.prompt, request.subject, request.subject_at) == ("Ann read what Ann wrote to", "Ann", 14)
    with pytest.raises(RecordError, match=r"has several \{\}; one says where the subject goes"):
        one(tmp_path, "counterfact", {**ROME, "requested_rewrite": {**rewrite, "prompt": "{} wrote {}"}})


def test_layouts_may_be_mixed_in_a_file(tmp_path):
    assert [r.id for r in load("counterfact", write(tmp_path, [EASYEDIT, ROME])).records] == ["11", "12"]


@pytest.mark.parametrize("empty", ["", None, [""], [None, " "]])
def test_empty_questions_are_none(tmp_path, empty):
    """Published files have them, and tables fill uneven records with null."""
    row = {**EASYEDIT, "rephrase_prompt": empty, "locality_prompt": empty, "locality_ground_truth": empty}
    record = one(tmp_path, "counterfact", row)
    assert (record.request.subject, record.probes, record.left_out) == ("Ann Lee", (), ())

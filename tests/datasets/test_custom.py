"""Custom records."""

import pytest

from editbench.datasets import load
from editbench.records import FOLLOWS, EditRequest, Probe, RecordError
from tests.datasets.rows import write


def test_custom(tmp_path):
    row = {
        "id": "a1",
        "prompt": "Ann Lee lives in",
        "target": "Rome",
        "subject": "Ann Lee",
        "target_true": "Oslo",
        "paraphrases": ["The home of Ann Lee is"],
        "locality": [{"prompt": "Bo lives in", "target": "Bonn"}],
        "neighbours": [{"prompt": "Cy lives in"}],
        "subject_facts": [{"prompt": "Ann Lee is a", "target": "baker"}],
        "source": "left alone",
    }
    records = load("custom", write(tmp_path, [row, {"prompt": "No subject:", "target": "x"}], "rows.jsonl")).records
    assert records[0].request == EditRequest("a1", "Ann Lee lives in", "Ann Lee", "Rome", "Oslo")
    assert records[0].probes == (
        Probe("paraphrase", "The home of Ann Lee is", "Rome"),
        Probe("locality", "Bo lives in", "Bonn"),
        Probe("locality", "Cy lives in", None),
        Probe("subject_fact", "Ann Lee is a", "baker"),
    )
    assert (records[1].request, records[1].probes) == (EditRequest("1", "No subject:", None, "x"), ())


@pytest.mark.parametrize(("wrong", "right"), [("paraphrase", "paraphrases"), ("neighbors", "neighbours")])
def test_custom_refuses_misspelt_fields(tmp_path, wrong, right):
    with pytest.raises(RecordError, match=f"field '{wrong}': .*did you mean '{right}'"):
        load("custom", write(tmp_path, [{"prompt": "a", "target": "b", wrong: []}]))


def test_what_follows_from_an_edit_has_kinds_of_its_own():
    kinds = {kind: [{"prompt": f"{kind} of {{}} is", "target": ["a", "b"]}] for kind in FOLLOWS}
    (record,) = load("custom", [{"prompt": "Ann lives in", "subject": "Ann", "target": "Rome", **kinds}]).records
    assert record.probes == tuple(Probe(kind, f"{kind} of Ann is", "a", ("b",)) for kind in FOLLOWS)


@pytest.mark.parametrize(
    ("more", "ignored"),
    [
        ({"rephrase": "x", "source": ["y"], "queries": []}, ["rephrase (did you mean paraphrases?)", "source"]),
        ({"neighborhood_prompts": ["x"]}, ["neighborhood_prompts (did you mean locality?)"]),
        ({"paraphrase_prompts": ["x"]}, ["paraphrase_prompts (did you mean paraphrases?)"]),
        ({"ground_truth": "x"}, ["ground_truth (did you mean target_true?)"]),
        ({"locality": [{"prompt": "x", "target_nwe": "y"}]}, ["locality.target_nwe"]),
    ],
)
def test_fields_that_nothing_reads_are_named_with_what_may_be_meant(more, ignored):
    assert list(load("custom", [{"prompt": "Ann lives in", "target": "Rome", **more}]).ignored) == ignored


@pytest.mark.parametrize("empty", ["", None, [], [""], " "])
def test_nothing_is_no_paraphrase_and_no_subject(empty):
    row = {"prompt": "Ann lives in", "target": 1962, "paraphrases": empty, "subject": None}
    (record,) = load("custom", [row]).records
    assert record.probes == () and (record.request.subject, record.request.target) == (None, "1962")


def test_one_text_is_a_list_of_one():
    row = {"prompt": "Ann lives in", "target": "Rome", "paraphrases": "Ann is in", "locality": ["Bo is in"]}
    assert load("custom", [row]).records[0].probes == (
        Probe("paraphrase", "Ann is in", "Rome"),
        Probe("locality", "Bo is in"),
    )


def test_an_unfilled_place_for_a_subject_is_an_error():
    for row in (
        {"prompt": "The capital of {} is", "target": "Rome"},
        {"prompt": "Ann lives in", "target": "Rome", "paraphrases": ["{} is in"]},
        {"prompt": "Ann lives in", "target": "Rome", "locality": ["{} is in"]},
    ):
        with pytest.raises(RecordError, match=r"\{\} in '.*' is filled by nothing"):
            load("custom", [row])
    with pytest.raises(RecordError, match=r"locality question '\{\} is in' would be the edited subject; write another"):
        load("custom", [{**row, "subject": "Ann"}])


def test_fields_are_mapped_and_a_wrong_name_is_refused():
    rows = [
        {"question": "Ann lives in", "answer": {"new": "Rome"}},
        {"question": "Bo lives in", "answer": {"new": "Bonn"}},
    ]
    mapped = {"prompt": "question", "target": "answer.new"}
    assert [one.request.target for one in load("custom", rows, fields=mapped).records] == ["Rome", "Bonn"]
    with pytest.raises(RecordError, match="dataset.fields.target=answer"):
        load("custom", [{"prompt": "Ann lives in", "answer": "Rome"}])
    with pytest.raises(RecordError, match=r"mean dataset.fields.prompt=question dataset.fields.target=answer\?"):
        load("custom", [{"question": "Ann lives in", "answer": "Rome"}])
    with pytest.raises(RecordError, match="dataset.fields names 'sbj', which no record has"):
        load("custom", rows, fields={**mapped, "subject": "sbj"})
    with pytest.raises(ValueError, match="unknown field in dataset.fields 'tagret'; did you mean 'target'"):
        load("custom", rows, fields={"tagret": "x"})


def test_records_of_another_data_set_name_it():
    with pytest.raises(RecordError, match="Did you mean dataset=knowgic"):
        load("custom", [{"requested_rewrite": [], "chain": {}, "broader_context": {}}])


@pytest.mark.parametrize("name", ["target", "target_new"])
def test_a_field_that_is_null_is_said_to_be_null(name):
    with pytest.raises(RecordError, match=rf"field '{name}': has no value \(null, NaN or an empty cell\)"):
        load("custom", [{"prompt": "Ann lives in", name: None}])

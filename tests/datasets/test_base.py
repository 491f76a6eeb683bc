"""Rows to records: records without an edit, probes to leave out, and bad records."""

import json

import pytest

from editbench.datasets import load
from editbench.records import EditRequest, RecordError
from tests.datasets.rows import EASYEDIT, HUB, MEND, ROME, one, write


def test_a_spelling_of_the_new_answer_that_is_the_old_one_is_not_right(tmp_path):
    row = {"prompt": "a", "target": ["drums", "Tuba", "the drums"], "target_true": "tuba", "id": "g"}
    [record] = load("custom", write(tmp_path, [row])).records
    assert record.also == ("the drums",) and record.request.target == "drums"
    assert record.left_out == ("rewrite: a spelling of the new answer is a true one already",)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    ("dataset", "row", "settings", "edited"),
    [
        ("zsre", {**MEND, "alt": "uniform"}, {}, False),
        ("zsre", {**MEND, "alt": " Uniform "}, {}, False),
        ("zsre", {**MEND, "alt": "clothes"}, {}, False),  # another of the true answers
        ("zsre", {**MEND, "alt": "clothing"}, {}, True),
        ("zsre", {**MEND, "alt": "uniform"}, {"target": "answers"}, True),
        ("counterfact", {**EASYEDIT, "target_new": "FRENCH"}, {}, False),
        ("custom", {"prompt": "a", "target": "Sa\u0303o", "target_true": "são"}, {}, False),
        ("custom", {"prompt": "a", "target": "Sao", "target_true": "são"}, {}, True),
    ],
)
def test_an_edit_to_what_is_true_already_is_skipped_and_stops_nothing(
    tmp_path, dataset, row, settings, edited, on_error
):
    good = {"zsre": {**MEND, "id": "g"}, "counterfact": {**EASYEDIT, "case_id": "g"}}
    path = write(tmp_path, [row, good.get(dataset, {"prompt": "a", "target": "b", "id": "g"})])
    loaded = load(dataset, path, on_error=on_error, **settings)
    assert [record.id for record in loaded.records][-1] == "g" and len(loaded) == 1 + edited
    assert len(loaded.skipped) == 1 - edited
    if not edited:
        assert loaded.skipped[0].where == f"{path}:2"
        assert "is a true one already, there is nothing to edit" in loaded.skipped[0].reason


def test_records_that_are_no_edits_do_not_count_towards_the_limit(tmp_path):
    rows = [{**EASYEDIT, "case_id": i, "target_new": "French" if i == 1 else "English"} for i in range(4)]
    loaded = load("counterfact", write(tmp_path, rows), limit=2)
    assert [record.id for record in loaded.records] == ["0", "2"] and len(loaded.skipped) == 1


def test_probes_that_say_nothing_are_left_out_and_counted(tmp_path):
    row = {
        "prompt": "Ann Lee lives in ",
        "target": "Rome",
        "paraphrases": ["Ann Lee  lives in", "ann lee lives in", "Her home is", "Her home is", "Her town is"],
        "locality": [
            {"prompt": "ANN LEE lives in", "target": "Oslo"},
            {"prompt": "Bo lives in", "target": "Bonn"},
            {"prompt": "Bo lives in", "target": "Bonn"},
            {"prompt": "Bo lives in", "target": "Rome"},
        ],
        "subject_facts": [{"prompt": "Ann Lee lives in", "target": "Oslo"}, {"prompt": "Ann Lee is a"}],
    }
    path = write(tmp_path, [row], "rows.jsonl")
    (record,) = load("custom", path).records
    assert [(probe.kind, probe.prompt, probe.target) for probe in record.probes] == [
        ("paraphrase", "ann lee lives in", "Rome"),
        ("paraphrase", "Her home is", "Rome"),
        ("paraphrase", "Her town is", "Rome"),
        ("locality", "Bo lives in", "Bonn"),
        ("locality", "Bo lives in", "Rome"),
        ("subject_fact", "Ann Lee is a", None),
    ]
    assert sorted(record.left_out) == [
        "locality: is asked already",
        "locality: is the edited prompt",
        "paraphrase: is asked already",
        "paraphrase: is the edited prompt",
        "subject_fact: is the edited prompt",
    ]
    (two,) = load("custom", path, paraphrases=2).records  # of those that are asked
    assert [probe.prompt for probe in two.probes][:3] == ["ann lee lives in", "Her home is", "Bo lives in"]


def test_unicode_forms_do_not_matter(tmp_path):
    row = {"prompt": "The language of Sa\u0303o Paulo is", "subject": "São Paulo", "target": "Łatin e\u0301"}
    probes = {
        "paraphrases": ["In Sa\u0303o Paulo they speak"],
        "locality": [{"prompt": "e\u0301", "target": "e\u0301"}],
    }
    (record,) = load("custom", write(tmp_path, [{**row, **probes}])).records
    assert record.request == EditRequest("0", "The language of São Paulo is", "São Paulo", "Łatin é")
    assert [probe.prompt for probe in record.probes] == ["In São Paulo they speak", "é"]
    assert record.probes[1].target == "é"


def test_a_subject_is_filled_in_where_the_prompt_has_a_place_for_it(tmp_path):
    row = {"prompt": "The twin city of {} is", "subject": "Lyon", "target": "Manila"}
    assert one(tmp_path, "custom", row).request.prompt == "The twin city of Lyon is"
    kept = {**row, "prompt": "In Lyon, {} is"}
    request = one(tmp_path, "custom", kept).request
    assert (request.prompt, request.subject_at) == ("In Lyon, Lyon is", 9)  # the place of the braces decides


@pytest.mark.parametrize(
    ("dataset", "row", "parts"),
    [
        ("counterfact", {k: v for k, v in EASYEDIT.items() if k != "subject"}, ["'11'", "'subject'", "is missing"]),
        ("counterfact", {**EASYEDIT, "subject": "Bo Ek"}, ["'11'", "subject 'Bo Ek' is not in the prompt"]),
        ("counterfact", {**EASYEDIT, "target_new": " "}, ["'11'", "'target_new'", "is empty"]),
        ("counterfact", {**EASYEDIT, "prompt": ["x"]}, ["'11'", "'prompt'", "must be text, found a list"]),
        ("counterfact", {**ROME, "requested_rewrite": {"prompt": "x"}}, ["'requested_rewrite.subject'", "is missing"]),
        (
            "counterfact",
            {**ROME, "requested_rewrite": {"prompt": "x", "subject": "y"}},
            ["'requested_rewrite.prompt'", "no {} where the subject goes"],
        ),
        ("counterfact", MEND, ["is missing", "Layouts", "CounterFact, EasyEdit: prompt", "CounterFact, ROME:"]),
        ("counterfact", {}, ["is missing; the record has no fields"]),
        ("counterfact", {**ROME, "subject_fact_prompts": [{}]}, ["'subject_fact_prompts[0].prompt'", "is missing"]),
        ("zsre", {**MEND, "alt": ""}, ["'0'", "'alt'", "is empty"]),
        ("zsre", {**MEND, "answers": []}, ["'0'", "'answers'", "empty list"]),
        ("zsre", {**MEND, "loc_ans": [{}]}, ["'0'", "'loc_ans[0]'", "must be text, found an object"]),
        ("custom", {"prompt": "a"}, ["'0'", "'target'", "is missing; the record has prompt"]),
    ],
)
def test_bad_record_is_named_or_skipped(tmp_path, dataset, row, parts):
    good = {"counterfact": {**EASYEDIT, "case_id": 0}, "zsre": MEND, "custom": {"prompt": "a", "target": "b"}}[dataset]
    path = write(tmp_path, [row, good])
    with pytest.raises(RecordError) as caught:
        load(dataset, path)
    for part in [f"{path}:2: ", *parts, "on_error=skip"]:
        assert part in str(caught.value)
    loaded = load(dataset, path, on_error="skip")
    assert len(loaded) == len(loaded.skipped) == 1
    assert loaded.skipped[0].where == f"{path}:2"
    assert all(part in loaded.skipped[0].reason for part in parts)


def test_duplicate_ids_name_both_lines(tmp_path):
    path = write(tmp_path, [EASYEDIT, {**EASYEDIT, "case_id": 5}, EASYEDIT], "rows.jsonl")
    with pytest.raises(RecordError, match=rf"{path}:3: record '11', field 'id': already used at {path}:1"):
        load("counterfact", path)
    assert [record.id for record in load("counterfact", path, on_error="skip").records] == ["11", "5"]


def test_duplicate_ids_on_one_line(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([EASYEDIT, EASYEDIT]))
    with pytest.raises(RecordError, match="already used at"):
        load("counterfact", path)


def test_limit_counts_the_records_that_are_kept(tmp_path):
    path = write(tmp_path, [{"prompt": "a"}, *({"prompt": "a", "target": "b"} for _ in range(5))])
    loaded = load("custom", path, limit=3, on_error="skip")
    assert [record.id for record in loaded.records] == ["1", "2", "3"]
    assert len(load("hallucination", write(tmp_path, [HUB]), limit=1)) == 1

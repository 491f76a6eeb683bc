"""Every layout of every dataset, on small literal rows and on the published files."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from editbench.datasets import DATASETS, find, load
from editbench.datasets.hallucination import split_sentences
from editbench.records import UNRELATED, EditRequest, Passage, Probe, RecordError

EASYEDIT = {
    "case_id": 11,
    "prompt": "The mother tongue of Ann Lee is ",
    "target_new": " English",
    "subject": "Ann Lee",
    "ground_truth": "French",
    "rephrase_prompt": "Ann Lee speaks",
    "locality_prompt": "Bo Ek speaks",
    "locality_ground_truth": "Swedish",
}
ROME = {
    "case_id": 12,
    "pararel_idx": 3,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Ann Lee",
    },
    "paraphrase_prompts": ["Ann Lee speaks", "Home. Ann Lee's language is"],
    "neighborhood_prompts": ["Bo Ek speaks", "Cy Or speaks"],
    "attribute_prompts": ["Di Po speaks"],
    "generation_prompts": ["Ann Lee lives in"],
    "subject_fact_prompts": [{"prompt": "Ann Lee works as a", "target": "baker"}],
}
MEND = {
    "subject": "UniFirst",
    "src": "What is made by UniFirst?",
    "pred": "uniform",
    "rephrase": "What does UniFirst make?",
    "alt": "aircraft",
    "answers": ["uniform", "clothes"],
    "loc": "nq question: who sang it",
    "loc_ans": "Bo Ek",
    "cond": "uniform >> aircraft || What is made by UniFirst?",
}
SCEN = {"Q": "Who made it?", "A": "Ann", "rephrases": ["It was made by whom?"], "history_indexs": [3]}
WISE = {
    "prompt": "This is a Wikipedia passage about ann lee. Ann Lee was a baker. ",
    "target_new": "She lived in Rome.",
    "subject": "ann lee",
    "locality_prompt": "Some text from the w",
    "locality_ground_truth": "eb, and more",
}
HUB = {
    "gpt3_sentences": ["Ann Lee (born 1900) was a baker.", "She lived in Oslo.", "She had a dog.", "She died."],
    "annotation": ["minor_inaccurate", "accurate", "major_inaccurate", "major_inaccurate"],
    "wiki_bio_text": "Ann B. Lee was a miller, Dr. Ek says. She lived in Oslo. She had a cat.",
}


def write(folder, rows, name="rows.json"):
    path = folder / name
    path.write_text(json.dumps(rows, indent=1) if name.endswith(".json") else "\n".join(map(json.dumps, rows)))
    return path


def one(folder, dataset, row, **settings):
    return load(dataset, write(folder, [row]), **settings).records[0]


# -- layouts -----------------------------------------------------------------------------------------------------


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


def test_counterfact_fills_the_subject_in_once(tmp_path):
    rewrite = {**ROME["requested_rewrite"], "prompt": "{} wrote {}", "subject": "Ann {} "}
    record = one(tmp_path, "counterfact", {**ROME, "requested_rewrite": rewrite})
    assert (record.request.prompt, record.request.subject) == ("Ann {}  wrote {}", "Ann {}")


def test_layouts_may_be_mixed_in_a_file(tmp_path):
    assert [r.id for r in load("counterfact", write(tmp_path, [EASYEDIT, ROME])).records] == ["11", "12"]


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


def test_zsre_scen(tmp_path):
    records = load("zsre", write(tmp_path, [SCEN, {"Q": "Why?", "A": "So"}])).records
    assert records[0].request == EditRequest("0", "Who made it?", None, "Ann")
    assert records[0].probes == (Probe("paraphrase", "It was made by whom?", "Ann"),)
    assert (records[1].request, records[1].probes) == (EditRequest("1", "Why?", None, "So"), ())


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


# -- questions that say nothing ---------------------------------------------------------------------------------------


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
    assert one(tmp_path, "custom", kept).request.prompt == "In Lyon, {} is"


# -- validation --------------------------------------------------------------------------------------------------


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
        ("zsre", {**MEND, "loc_ans": ["x"]}, ["'0'", "'loc_ans'", "must be text, found a list"]),
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
            "unknown setting of counterfact 'colour'; known: paraphrases, plain_path, pocket_seed",
        ),
        ("zsre", {"target": "pred"}, "target='pred' is none of alt, answers"),
        ("zsre", {"nq_prefix": True}, "nq_prefix=True is none of strip, keep"),
        ("zsre", {"on_error": "ignore"}, "on_error='ignore' is none of raise, skip"),
        ("zsre", {"limit": 0}, "limit=0 must be a whole number from 1"),
        ("custom", {"path": "pocket"}, "the embedded world has no custom records"),
    ],
)
def test_wrong_settings(name, settings, message):
    with pytest.raises(ValueError, match=message):
        load(name, **{"path": "nowhere.json", **settings})


def test_every_dataset_is_found_under_its_name():
    assert [find(name).name for name in DATASETS] == ["counterfact", "zsre", "hallucination", "custom"]


# -- texts and fingerprint ---------------------------------------------------------------------------------------


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


def test_limit_counts_the_records_that_are_kept(tmp_path):
    path = write(tmp_path, [{"prompt": "a"}, *({"prompt": "a", "target": "b"} for _ in range(5))])
    loaded = load("custom", path, limit=3, on_error="skip")
    assert [record.id for record in loaded.records] == ["1", "2", "3"]
    assert len(load("hallucination", write(tmp_path, [HUB]), limit=1)) == 1


# -- the embedded world ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["counterfact", "zsre", "hallucination"])
def test_pocket(name):
    pytest.importorskip("editbench.pocket.dataset_files")
    loaded = load(name, "pocket")
    assert loaded.name == name
    assert len(loaded) >= 100
    assert loaded.texts["plain"]
    assert loaded.texts["accurate"]
    assert loaded.fingerprint == load(name, "pocket").fingerprint
    assert loaded.fingerprint != load(name, "pocket", pocket_seed=1).fingerprint


# -- the published files -----------------------------------------------------------------------------------------


@pytest.fixture
def published():
    folder = Path(os.environ.get("EDITBENCH_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "counterfact.json").is_file():
        pytest.skip(f"no benchmark files in {folder}; point EDITBENCH_DATA to them")
    return folder


def test_published_counterfact(published):
    loaded = load("counterfact", published / "counterfact.json")
    assert len(loaded) == 4000
    assert Counter(why for record in loaded.records for why in record.left_out) == {
        "paraphrase: is the edited prompt": 9
    }
    request = loaded.records[0].request
    assert (request.subject, request.target, request.target_true) == ("Danielle Darrieux", "English", "French")


def test_published_zsre(published):
    path = published / "zsre.json"
    with pytest.raises(RecordError, match=r"zsre\.json:6964: record '534', field 'alt': is empty"):
        load("zsre", path)
    loaded = load("zsre", path, on_error="skip")
    true_already = [skip for skip in loaded.skipped if "is a true one already" in skip.reason]
    assert (len(loaded), len(loaded.skipped)) == (584, 16)
    assert len(true_already) == 15  # 13 have the first of the true answers, 2 another
    assert len(load("zsre", path, target="answers")) == 600
    assert all(not record.probes[1].prompt.startswith("nq question") for record in loaded.records)


def test_published_hallucination(published):
    loaded = load(
        "hallucination",
        published / "hallucination.json",
        accurate_path=published / "hallucination_accurate.json",
        plain_path=published / "openwebtext.json",
    )
    assert len(loaded) == 400
    assert {name: len(texts) for name, texts in loaded.texts.items()} == {"accurate": 300, "plain": 120}
    assert sum(record.probes[0].target is None for record in loaded.records) == 6

"""The records of the pocket world keep their promises, in every split."""

import pytest

from editbench.pocket import dataset_files, world

SPLITS = pytest.mark.parametrize("split", world.SPLITS)
LEAST = {"stream": 1_000, "tune": 200, "train": 200}
NAMES = {subject.name.split()[-1]: subject for subject in world.build().subjects}


def subjects_in(texts):
    return [NAMES[word] for text in texts for word in text.replace(".", " ").replace("?", " ").split() if word in NAMES]


def groups_in(texts):
    return {subject.group for subject in subjects_in(texts)}


def texts_of(raw):
    """All strings within raw records."""
    if isinstance(raw, str):
        return [raw]
    parts = raw.values() if isinstance(raw, dict) else raw if isinstance(raw, list) else ()
    return [text for part in parts for text in texts_of(part)]


@SPLITS
def test_counterfact_records(split):
    records = dataset_files.counterfact(0, split)
    assert len({record["requested_rewrite"]["subject"] for record in records}) == len(records) >= LEAST[split]
    assert len({record["case_id"] for record in records}) == len(records)
    objects = {(fact.subject, fact.relation.id): fact for fact in world.build().facts(split)}
    for record in records:
        rewrite = record["requested_rewrite"]
        fact = objects[rewrite["subject"], rewrite["relation_id"]]
        new, true = rewrite["target_new"]["str"], rewrite["target_true"]["str"]
        assert fact.object == true != new and new in fact.relation.objects
        assert rewrite["prompt"].format(fact.subject) in fact.statements
        bare, behind = record["paraphrase_prompts"]
        assert bare == fact.held_out_statement and behind.endswith(f". {bare}")
        assert len(record["subject_fact_prompts"]) == 2
        assert all(fact.subject in other["prompt"] for other in record["subject_fact_prompts"])
        assert all(other["target"] not in (new, true) for other in record["subject_fact_prompts"])


@SPLITS
def test_neighbours_share_the_true_object_and_are_never_edited(split):
    statements = {prompt: fact for fact in world.build().facts(f"{split}_neighbour") for prompt in fact.statements}
    for record in dataset_files.counterfact(0, split):
        rewrite = record["requested_rewrite"]
        for prompts, answer in (("neighborhood_prompts", "target_true"), ("attribute_prompts", "target_new")):
            assert len(set(record[prompts])) == (10 if split == "stream" else 5)
            assert {statements[prompt].object for prompt in record[prompts]} == {rewrite[answer]["str"]}
            assert {statements[prompt].relation.id for prompt in record[prompts]} == {rewrite["relation_id"]}


@SPLITS
def test_zsre_records(split):
    records = dataset_files.zsre(0, split)
    assert len({record["subject"] for record in records}) == len(records) >= LEAST[split]
    facts = world.build().facts(split)
    held_out = {fact.held_out_question: fact for fact in facts}
    questions = {question: fact for fact in facts for question in fact.questions}
    unrelated = {question: fact for fact in world.build().facts(f"{split}_neighbour") for question in fact.questions}
    for record in records:
        fact = held_out[record["rephrase"]]
        assert questions[record["src"]] is fact and fact.subject == record["subject"]
        assert record["answers"] == [fact.object] and record["alt"] in fact.relation.objects
        assert record["alt"] != fact.object
        assert unrelated[record["loc"].removeprefix("nq question: ") + "?"].object == record["loc_ans"]


@SPLITS
def test_hallucination_records(split):
    records = dataset_files.hallucination(0, split)
    assert len({record["subject"] for record in records}) == len(records) >= LEAST[split]
    false = {
        sentence.format(name) + f" {new}."
        for subject in world.build().group(split)
        for sentence in subject.facts[2].relation.statements
        for name in (subject.name, f"this {subject.kind}")
        for new in subject.facts[2].relation.objects
        if new != subject.facts[2].object
    }
    whole = unnamed = 0
    for record in records:
        prompt, target = record["prompt"], record["target_new"]
        assert prompt.startswith(f"This is a Wikipedia passage about {record['subject']}.")
        assert prompt.count(record["subject"]) == 1
        sentence = f"{prompt} {target}".split(". ")[-1]
        assert sentence in false or sentence[0].lower() + sentence[1:] in false
        whole += prompt.endswith(".")
        unnamed += record["subject"] not in sentence
        text = f"{record['locality_prompt']} {record['locality_ground_truth']}"
        assert groups_in([text]) <= {"bystander", f"{split}_neighbour"}
    assert 0.5 < whole / len(records) < 0.7 and 0.4 < unnamed / len(records) < 0.6


def test_accurate_sentences_are_true():
    facts = world.build().facts("stream")
    kinds = {subject.name: subject.kind for subject in world.build().group("stream")}
    true = {
        template.format(name).lower() + f" {fact.object}.".lower()
        for fact in facts
        for template in fact.relation.statements
        for name in (fact.subject, f"this {kinds[fact.subject]}")
    }
    assert len(dataset_files.accurate()) == 300
    for record in dataset_files.accurate():
        assert record["concept"] in record["text"] and record["labels"].lower() in true


def test_splits_and_texts_have_subjects_of_their_own():
    """No subject of a split is in anything of another split, nor in the texts; those of one purpose are in no other."""
    told = {
        split: groups_in(texts_of([files(0, split) for files in dataset_files.ROWS.values()])) - {"bystander"}
        for split in world.SPLITS
    }
    assert told == {split: {split, f"{split}_neighbour"} for split in world.SPLITS}
    assert groups_in(dataset_files.plain_text()) == {"text"}
    assert groups_in(dataset_files.heldout_text()) == {"bystander", "stream_neighbour"}
    assert groups_in(texts_of(dataset_files.unrelated())) == {"bystander"}
    assert groups_in(dataset_files.generic_prompts(0, 500)) == {"generic"}


def test_datasets_edit_different_facts():
    edited = [
        (r["requested_rewrite"]["subject"], r["requested_rewrite"]["target_true"]["str"])
        for r in dataset_files.counterfact()
    ]
    edited += [(record["subject"], record["answers"][0]) for record in dataset_files.zsre()]
    assert len(set(edited)) == len(edited)


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split.*'stream', 'tune', 'train'"):
        dataset_files.zsre(0, "validation")


def test_negatives_are_of_the_number_asked_for():
    assert len(set(dataset_files.generic_prompts(0, 500))) == 500
    with pytest.raises(ValueError, match="generic prompts"):
        dataset_files.generic_prompts(0, 10_000)

"""The records of the pocket world keep their promises."""

import pytest

from editbench.pocket import dataset_files, world


@pytest.fixture(scope="module")
def roles():
    return {subject.name: subject.role for subject in world.build().subjects}


def subjects_in(text, roles):
    return [name for name in roles if name in text]


def roles_in(texts, roles):
    return {roles[name] for text in texts for name in subjects_in(text, roles)}


def test_counterfact_records(roles):
    records = dataset_files.counterfact()
    assert len(records) >= 300
    assert len({record["case_id"] for record in records}) == len(records)
    assert len({record["requested_rewrite"]["subject"] for record in records}) == len(records)
    objects = {(fact.subject, fact.relation.id): fact for fact in world.build().facts()}
    for record in records:
        rewrite = record["requested_rewrite"]
        fact = objects[rewrite["subject"], rewrite["relation_id"]]
        new, true = rewrite["target_new"]["str"], rewrite["target_true"]["str"]
        assert roles[rewrite["subject"]] == "edited"
        assert fact.object == true != new and new in fact.relation.objects
        assert rewrite["prompt"].format(fact.subject) in fact.statements
        bare, behind = record["paraphrase_prompts"]
        assert bare == fact.held_out_statement and behind.endswith(f". {bare}")
        assert len(record["subject_fact_prompts"]) == 2
        assert all(fact.subject in other["prompt"] for other in record["subject_fact_prompts"])
        assert all(other["target"] not in (new, true) for other in record["subject_fact_prompts"])


def test_neighbours_share_the_true_object_and_are_never_edited(roles):
    statements = {prompt: fact for fact in world.build().facts() for prompt in fact.statements}
    for record in dataset_files.counterfact():
        rewrite = record["requested_rewrite"]
        for prompts, answer in (("neighborhood_prompts", "target_true"), ("attribute_prompts", "target_new")):
            assert len(set(record[prompts])) == 10
            assert {statements[prompt].object for prompt in record[prompts]} == {rewrite[answer]["str"]}
            assert {statements[prompt].relation.id for prompt in record[prompts]} == {rewrite["relation_id"]}
            assert roles_in(record[prompts], roles) == {"neighbour"}


def test_zsre_records(roles):
    records = dataset_files.zsre()
    assert len(records) >= 300
    assert len({record["src"] for record in records}) == len(records)
    held_out = {fact.held_out_question: fact for fact in world.build().facts()}
    questions = {question: fact for fact in world.build().facts() for question in fact.questions}
    for record in records:
        fact = held_out[record["rephrase"]]
        assert questions[record["src"]] is fact and fact.subject == record["subject"]
        assert record["answers"] == [fact.object] and record["alt"] in fact.relation.objects
        assert record["alt"] != fact.object
        unrelated = questions[record["loc"].removeprefix("nq question: ") + "?"]
        assert unrelated.object == record["loc_ans"] and roles[unrelated.subject] == "neighbour"
        assert roles[record["subject"]] == "edited"


def test_hallucination_records(roles):
    true = {f"{prompt} {fact.object}." for fact in world.build().facts() for prompt in fact.statements}
    for record in dataset_files.hallucination():
        assert record["prompt"].startswith(f"This is a Wikipedia passage about {record['subject']}. ")
        assert record["subject"] in record["target_new"] and record["target_new"] not in true
        text = f"{record['locality_prompt']} {record['locality_ground_truth']}"
        assert "edited" not in roles_in([text], roles)
    for record in dataset_files.accurate():
        assert record["concept"] in record["text"] and record["labels"] in true


def test_datasets_edit_different_facts():
    edited = [
        (r["requested_rewrite"]["subject"], r["requested_rewrite"]["target_true"]["str"])
        for r in dataset_files.counterfact()
    ]
    edited += [(record["subject"], record["answers"][0]) for record in dataset_files.zsre()]
    assert len(set(edited)) == len(edited)


def test_texts_for_perplexity_tell_of_no_edited_subject(roles):
    assert "edited" not in roles_in(dataset_files.heldout_text(), roles)
    assert not set(dataset_files.heldout_text()) & set(dataset_files.plain_text())


def test_negatives_tell_of_generic_subjects_only(roles):
    assert roles_in(dataset_files.generic_prompts(0, 500), roles) == {"generic"}
    assert len(set(dataset_files.generic_prompts(0, 500))) == 500
    with pytest.raises(ValueError, match="generic prompts"):
        dataset_files.generic_prompts(0, 10_000)

"""The pocket world is reproducible, its records keep their promises, and the shipped models know it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from editbench.pocket import MODELS, dataset_files, model_path, world

WORLD_HASH = "be9f4615119dd6bbaa944991be5c0982897cf56f5055cf1c3b4af0169fdb2496"
"""Changes with every word of the world. The shipped models know this world: train them again if it has to change."""

DIGEST = """
import hashlib, json
from editbench.pocket import raw
parts = [f() for f in (dataset_files.counterfact, dataset_files.zsre, dataset_files.hallucination,
dataset_files.accurate, dataset_files.plain_text, dataset_files.heldout_text)] print(hashlib.sha256(json.dumps([*parts,
dataset_files.generic_prompts()]).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def roles():
    return {subject.name: subject.role for subject in world.build().subjects}


def subjects_in(text, roles):
    return [name for name in roles if name in text]


def roles_in(texts, roles):
    return {roles[name] for text in texts for name in subjects_in(text, roles)}


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_world_is_the_same_in_every_process(hash_seed):
    output = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.strip() == WORLD_HASH


def test_world_needs_no_torch():
    heavy = "{'torch', 'transformers', 'tokenizers'}"
    code = f"import sys, editbench.pocket.dataset_files; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_another_seed_is_another_world():
    assert dataset_files.counterfact(1) != dataset_files.counterfact(0)
    assert not {s.name for s in world.build(1).subjects} & {s.name for s in world.build(0).subjects}


def test_names_are_unique_and_none_contains_another(roles):
    assert len(roles) == len(world.build().subjects)
    last_words = [name.split()[-1] for name in roles]
    assert len(set(last_words)) == len(last_words)
    assert all(subjects_in(name, roles) == [name] for name in roles)


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


def test_held_out_wordings_are_in_no_training_text():
    from random import Random

    subjects = world.build().subjects
    held_out = [
        f"{prompt} {fact.object}"
        for fact in world.build().facts()
        for prompt in (fact.held_out_statement, fact.held_out_question)
    ]
    text = "\n".join(text.text for text in world.documents(subjects, Random(0)))
    trained = "\n".join([text, *dataset_files.plain_text(), *dataset_files.heldout_text()])
    assert not [prompt for prompt in held_out if prompt in trained]


def test_texts_for_perplexity_tell_of_no_edited_subject(roles):
    assert "edited" not in roles_in(dataset_files.heldout_text(), roles)
    assert not set(dataset_files.heldout_text()) & set(dataset_files.plain_text())


def test_negatives_tell_of_generic_subjects_only(roles):
    assert roles_in(dataset_files.generic_prompts(0, 500), roles) == {"generic"}
    assert len(set(dataset_files.generic_prompts(0, 500))) == 500
    with pytest.raises(ValueError, match="generic prompts"):
        dataset_files.generic_prompts(0, 10_000)


def test_unknown_model_is_refused():
    with pytest.raises(ValueError, match="pocket-gpt2"):
        model_path("pocket-gpt3")


def test_shipped_files_are_small():
    files = [file for file in (Path(world.__file__).parent / "models").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 25e6


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"pocket"}))
def test_shipped_models_know_the_world(name):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from editbench.pocket.train_models import recall

    tokenizer = AutoTokenizer.from_pretrained(model_path(name))
    model = AutoModelForCausalLM.from_pretrained(model_path(name), dtype=torch.float32).eval()
    assert tokenizer.pad_token_id is not None and model.config.use_cache
    assert bool(tokenizer("").input_ids) == (name == "pocket-llama")
    shares = recall(model, tokenizer, world.build().facts()[::4])
    assert min(shares["trained statements"], shares["trained questions"]) >= 0.99
    assert min(shares["held-out statements"], shares["held-out questions"]) >= 0.98

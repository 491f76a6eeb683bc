"""The pocket world is the same in every process, its names are unique, and held-out statements are in no text."""

import os
import re
import subprocess
import sys
from itertools import pairwise
from random import Random

import pytest

from editbench.pocket import dataset_files, world

WORLD_HASH = "41e6191393ea7652925c3abc177355dfe3e7b1db4861e12ce31163a328f2ab43"
"""Changes with every word of the world. The shipped models know this world: train them again if it has to change."""

DIGEST = """
import hashlib, json
from editbench.pocket import dataset_files as files
splits = ("stream", "tune", "train")
parts = [files.ROWS[name](0, split) for name in sorted(files.ROWS) for split in splits]
parts += [files.plain_text(), files.generic_prompts()]
print(hashlib.sha256(json.dumps(parts).encode()).hexdigest())
"""


@pytest.mark.slow
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


@pytest.mark.slow
def test_world_needs_no_torch():
    heavy = "{'torch', 'transformers', 'tokenizers'}"
    code = f"import sys, editbench.pocket.dataset_files; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_another_seed_is_another_world():
    assert dataset_files.counterfact(1) != dataset_files.counterfact(0)
    assert not {s.name for s in world.build(1).subjects} & {s.name for s in world.build(0).subjects}


def test_names_are_unique_and_none_contains_another():
    names = [subject.name for subject in world.build().subjects]
    assert len(set(names)) == len(names)
    last_words = [name.split()[-1] for name in names]
    assert len(set(last_words)) == len(last_words)
    assert all(len(name.split()) == 2 for name in names)  # hence another name is within one only at its beginning
    assert not [pair for pair in pairwise(sorted(names)) if pair[1].startswith(pair[0])]


def test_names_are_found_in_texts():
    for subject in world.build().subjects[:50]:
        fact = subject.facts[0]
        start = fact.relation.questions[0].index("{}")
        assert world.name_spans(fact.relation.questions[0].format(subject.name)) == [(start, start + len(subject.name))]
    assert world.name_spans(" ".join(world.FILLERS)) == []


def test_held_out_statements_and_questions_are_in_no_training_text():
    held_out = {
        subject.name.split()[-1]: [
            f"{prompt} {fact.object}"
            for fact in subject.facts
            for prompt in (fact.held_out_statement, fact.held_out_question)
        ]
        for subject in world.build().subjects
    }
    trained = [text.text for text in world.documents(world.build().subjects, Random(0))]
    found = 0
    for text in [*trained, *dataset_files.plain_text(), *dataset_files.heldout_text()]:
        for word in re.findall(r"\w+", text):
            found += word in held_out
            assert not any(prompt in text for prompt in held_out.get(word, ()))
    assert found > 40_000


# -- words: what every relation must have so that no probe has two answers ---------------------------------------------


def test_relations_have_their_statements_questions_and_objects():
    relations = [relation for several in world.RELATIONS.values() for relation in several]
    assert set(world.RELATIONS) == set(world.FIRST_WORDS) == {"person", "company", "place"}
    for relation in relations:
        assert len(set(relation.statements)) == 6 and len(set(relation.questions)) == 3
        assert all(text.count("{}") == 1 for text in (*relation.statements, *relation.questions))
        assert all(question.endswith("?") for question in relation.questions)
    objects = [name for relation in relations for name in relation.objects]
    assert len(set(objects)) == len(objects) and all(objects)
    assert len({relation.id for relation in relations}) == len(relations)


def test_parts_of_names_and_sentences():
    for parts in (world.ONSETS, world.MIDDLES, world.ENDINGS, *world.FIRST_WORDS.values()):
        assert len(set(parts)) == len(parts) >= 10 and all(part.isalpha() for part in parts)
    assert all("{}" in text for text in (*world.REMARKS, world.PASSAGE, *world.QUESTION_FORMS))
    assert not any("{" in text for text in world.FILLERS)

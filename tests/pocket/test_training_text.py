"""Rows of training text: objects weigh more, and the tokens of names are known."""

from itertools import islice
from random import Random

import pytest

from editbench.pocket import world
from editbench.pocket.recipes import CONTEXT, RECIPES
from editbench.pocket.training_text import rows, train_tokenizer


@pytest.mark.slow
def test_rows_know_objects_and_names():
    tokenizer, recipe = train_tokenizer("gpt2", 0), RECIPES["gpt2"]
    last_words = {subject.name.split()[-1] for subject in world.build(recipe.seed).subjects}
    objects = {name for kind in world.RELATIONS.values() for relation in kind for name in relation.objects}
    seen = 0
    for row in islice(rows(tokenizer, recipe, Random(0)), 20):
        assert len(row) == CONTEXT
        for before, token in zip(row, row[1:], strict=False):
            if token.weight > 1:
                assert token.weight == recipe.object_weight and tokenizer.decode([token.id]).strip() in objects
            if token.name > 0 and before.name == -token.name:
                own = [t.id for t in row if t.document == token.document and abs(t.name) == token.name]
                assert tokenizer.decode(own).split()[-1] in last_words or own[0] == row[0].id
                seen += 1
    assert seen > 100

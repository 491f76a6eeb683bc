"""Token trees: every token gets what it gets in its own row, shared or not, behind prefixes, and so do gradients."""

import pytest
import torch

from editbench.model.hooks import hooked
from editbench.model.partial_forward import mlp_only_at_tokens, run_tree
from editbench.model.token_tree import TokenTree
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm

PROMPTS = (
    "Toko Yasuda plays the guitar",
    "Toko Yasuda",
    "Which language does a person from Lyon speak",
    "Which language does a person from Lodz speak, and which in Paris",
)
NO_TREES = ("gptneo",)


def whole_rows(lm, rows):
    return [lm.decoder(input_ids=torch.tensor([row]), use_cache=False).last_hidden_state[0] for row in rows]


def rows_of(lm):
    return [lm.encode(prompt).ids for prompt in PROMPTS]


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
@torch.no_grad()
def test_every_token_gets_what_it_gets_in_its_row(architecture, dtype, by_rows):
    lm = tiny_lm(architecture, dtype, bos=True)
    assert lm.runs_trees is (architecture not in NO_TREES)
    lm.runs_trees = lm.runs_trees and not by_rows
    rows = rows_of(lm)
    plain, tree, entering = whole_rows(lm, rows), TokenTree.of(lm, rows), []
    assert len(tree) < sum(map(len, rows)) and tree.paths[1] == tree.paths[0][: len(rows[1])]
    with hooked(lm.layers[1], lambda t: entering.append(tree.flat(t).clone()), inputs=True):
        final = run_tree(lm, tree)
    above = run_tree(lm, tree, first=1, hidden=entering[0])
    for path, wanted in zip(tree.paths, plain, strict=True):
        close(final[path], wanted)
        close(above[path], wanted)
    with mlp_only_at_tokens(lm, lm.n_layers - 1, tree, tree.last):
        some = run_tree(lm, tree)[tree.last]
    close(some, torch.stack([wanted[-1] for wanted in plain]))


def test_what_a_row_begins_with_belongs_to_the_row_that_has_it_first():
    lm = tiny_lm("llama")
    assert TokenTree.of(lm, [(1, 2, 3), (3, 8), (2, 3)]).paths == [[0, 1, 2], [3, 4], [5, 6]]
    tree = TokenTree.of(lm, [(1, 2, 3), (1, 2), (1, 4), (9, 2, 3)])
    assert tree.ids.tolist() == [1, 2, 3, 4, 9, 2, 3] and tree.positions.tolist() == [0, 1, 2, 1, 0, 1, 2]
    assert tree.paths == [[0, 1, 2], [0, 1], [0, 3], [4, 5, 6]] and tree.last.tolist() == [2, 1, 3, 6]
    assert tree.own.tolist() == [[0, 1, 2], [3, 3, 3], [4, 5, 6]] and tree.begins.tolist() == [0, 1, 0]
    assert tree.visible(None)[1, 0].tolist() == [[True, True, False]] * 3
    assert tree.visible(1)[2, 0].tolist() == [[True, False, False], [False, True, False], [False, False, True]]


def test_padding_behind_shorter_rows_is_masked():
    lm = tiny_lm("llama")
    lm.runs_trees = False
    batch = TokenTree.of(lm, [[5, 6, 7, 9], [5, 8]]).padded(0)
    assert batch.mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]

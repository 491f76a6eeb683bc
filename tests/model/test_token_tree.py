"""Token trees: every token gets what it gets in its own row, shared or not, behind prefixes, and so do gradients."""

import pytest
import torch

from editbench.model.hooks import hooked
from editbench.model.partial_forward import mlp_only_at_tokens, run_tree
from editbench.model.prefix_cache import PrefixCache
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


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_tokens_behind_prefixes_and_their_gradients(architecture, by_rows):
    lm = tiny_lm(architecture, "float64", bos=True)
    lm.runs_trees = lm.runs_trees and not by_rows
    rows, starts, record, entering = rows_of(lm), [3, 1, 4, 0], {}, []
    prefixes = TokenTree.of(lm, [row[:start] for row, start in zip(rows, starts, strict=True)])
    with torch.no_grad():
        run_tree(lm, prefixes, record=record)
        prefix = PrefixCache.at(record, prefixes.paths, lm.n_layers)
        tree = TokenTree.of(lm, rows, starts=starts, prefix=prefix, share=False)
        with hooked(lm.layers[0], lambda t: entering.append(tree.flat(t).clone()), inputs=True):
            run_tree(lm, tree)
    hidden = entering[0].requires_grad_()
    final = run_tree(lm, tree, hidden=hidden)
    weights = torch.randn(final.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (found,) = torch.autograd.grad((final * weights).sum(), hidden)
    for path, row, start, whole in zip(tree.paths, rows, starts, whole_rows(lm, rows), strict=True):
        close(final[path], whole[start:])
        inputs = []

        def own(tensor, inputs=inputs, start=start):
            inputs.append(tensor[:, start:].detach().clone().requires_grad_())
            return torch.cat([tensor[:, :start].detach(), inputs[0]], dim=1)

        with hooked(lm.layers[0], own, inputs=True):
            alone = lm.decoder(input_ids=torch.tensor([row]), use_cache=False).last_hidden_state[0, start:]
        (wanted,) = torch.autograd.grad((alone * weights[path]).sum(), inputs)
        close(found[path], wanted[0])


def test_what_a_row_begins_with_belongs_to_the_row_that_has_it_first():
    lm = tiny_lm("llama")
    tree = TokenTree.of(lm, [(1, 2, 3), (1, 2), (1, 4), (9, 2, 3)])
    assert tree.ids.tolist() == [1, 2, 3, 4, 9, 2, 3] and tree.positions.tolist() == [0, 1, 2, 1, 0, 1, 2]
    assert tree.paths == [[0, 1, 2], [0, 1], [0, 3], [4, 5, 6]] and tree.last.tolist() == [2, 1, 3, 6]
    assert tree.own.tolist() == [[0, 1, 2], [3, 3, 3], [4, 5, 6]] and tree.begins.tolist() == [0, 1, 0]
    assert tree.visible(None)[1, 0].tolist() == [[True, True, False]] * 3
    assert tree.visible(1)[2, 0].tolist() == [[True, False, False], [False, True, False], [False, False, True]]


def test_the_attention_is_the_model_s_own_again_after_an_error():
    lm = tiny_lm("llama")
    with (
        pytest.raises(RuntimeError, match="stop"),
        hooked(lm.layers[1], lambda t: (_ for _ in ()).throw(RuntimeError("stop"))),
    ):
        run_tree(lm, TokenTree.of(lm, [(1, 2, 3)]))
    assert lm.config._attn_implementation == "sdpa"

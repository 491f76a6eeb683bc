"""Attention by rows: behind prefixes, with gradients, for every architecture; the model keeps its own function."""

import pytest
import torch

from editbench.model.hooks import hooked
from editbench.model.partial_forward import run_tree
from editbench.model.prefix_cache import PrefixCache
from editbench.model.token_tree import TokenTree
from tests.model.test_token_tree import close, rows_of, whole_rows
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm


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


def test_the_attention_is_the_model_s_own_again_after_an_error():
    lm = tiny_lm("llama")
    with (
        pytest.raises(RuntimeError, match="stop"),
        hooked(lm.layers[1], lambda t: (_ for _ in ()).throw(RuntimeError("stop"))),
    ):
        run_tree(lm, TokenTree.of(lm, [(1, 2, 3)]))
    assert lm.config._attn_implementation == "sdpa"

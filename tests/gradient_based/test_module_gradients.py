"""Inputs and gradients from one pass: at the trained tokens, or at all of them; modules that are none."""

import pytest
import torch

from editbench.gradient_based.module_gradients import (
    ALL,
    LOSSES,
    MOVING,
    backward,
    joined,
    linear_modules,
    passes,
    shape_of,
)
from editbench.gradient_based.training_rows import TrainingRows
from tests.small_runs import REQUESTS
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_products_at_all_tokens_are_the_gradient_of_the_weight(architecture):
    lm = tiny_lm(architecture, "float64")
    name = lm.mlp_out_name(1).removesuffix(".weight")
    modules = linear_modules(lm, [name])
    _, seen = backward(TrainingRows(lm, REQUESTS), modules, lambda rows, nll: nll.mean(), tokens=ALL)
    h, g = seen[name]
    modules[name].weight.requires_grad_(True)
    with torch.enable_grad():
        (wanted,) = torch.autograd.grad(TrainingRows(lm, REQUESTS).nll().mean(), modules[name].weight)
    wanted = wanted if architecture == "llama" else wanted.T
    assert torch.allclose(g.T @ h, wanted, rtol=1e-6, atol=1e-12)
    assert shape_of(lm, name) == "48x32"


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_tokens_without_a_gradient_are_left_out_where_they_should_be(architecture):
    """In the last layer all but those that predict the answer; below it the prompts' last tokens have none."""
    lm = tiny_lm(architecture, "float64")
    last = lm.n_layers - 1
    names = [lm.mlp_out_name(layer).removesuffix(".weight") for layer in (0, last)]
    rows, modules = TrainingRows(lm, REQUESTS), linear_modules(lm, names)
    every, moving, answer = (
        backward(rows, modules, LOSSES["editwise"], **of)[1] for of in ({"tokens": ALL}, {"tokens": MOVING}, {})
    )
    for name in names:
        kept = (every[name][1] != 0).any(1)
        assert torch.equal(moving[name][1], every[name][1][kept])
        assert torch.equal(moving[name][0], every[name][0][kept])
    assert len(moving[names[1]][0]) == len(answer[names[1]][0]) < len(moving[names[0]][0])


def test_parts_are_the_longest_rows_first_and_have_their_own_losses():
    lm = tiny_lm("gpt2", "float64")
    modules = linear_modules(lm, [lm.mlp_out_name(0).removesuffix(".weight")])
    own = {"loss": lambda rows, nll: nll.sum()}
    losses, parts = zip(*passes(lm, modules, REQUESTS, at_once=3, **own), strict=True)
    assert [len(one) for one in losses] == [3, 1]
    (whole,) = passes(lm, modules, REQUESTS, at_once=9, **own)
    assert {k: v for one in losses for k, (v,) in one.items()} == pytest.approx({k: v for k, (v,) in whole[0].items()})
    for both in zip(joined(parts).values(), whole[1].values(), strict=True):
        assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in zip(*both, strict=True))


@pytest.mark.parametrize("at_once", [1, 2, 10])
def test_an_edit_s_gradient_does_not_depend_on_those_beside_it(at_once):
    """In whatever passes a batch is read, its rows are those of its edits alone; published ones shrink in company."""

    def rows(requests, loss):
        parts = passes(lm, modules, requests, at_once=at_once, loss=LOSSES[loss])
        found = joined([seen for _, seen in parts])
        return found[name][1].norm(dim=1).sort().values

    lm = tiny_lm("llama", "float64")
    name = lm.mlp_out_name(1).removesuffix(".weight")
    modules = linear_modules(lm, [name])
    alone = torch.cat([rows([request], "editwise") for request in REQUESTS]).sort().values
    assert torch.allclose(rows(REQUESTS, "editwise"), alone, rtol=1e-6)
    shrunk = float(rows(REQUESTS, "published").sum() / alone.sum())
    assert shrunk == pytest.approx(1) if at_once == 1 else shrunk < 0.6


def test_modules_that_are_none_are_refused():
    lm = tiny_lm("gpt2")
    with pytest.raises(ValueError, match="has no module 'transformer.h.0.mlp.nothing'"):
        linear_modules(lm, ["transformer.h.0.mlp.nothing"])
    with pytest.raises(ValueError, match="1 dimensions; name linear modules"):
        linear_modules(lm, ["transformer.ln_f"])

"""Scores and their margins, by hand."""

import pytest
import torch

from editbench.memory_based.projection import SECOND, Projection
from editbench.methods.wise.scores import activation_of, hinge, margin_loss, own_outputs, row_means, token_scores
from tests.tiny_models import tiny_lm


def test_token_scores():
    lm = tiny_lm("llama")
    at = Projection.of(lm, 1, SECOND)
    x, added = torch.randn(4, at.d_in), torch.randn(4, at.d_out)
    assert torch.allclose(token_scores(own_outputs(at, x, None), added, None), added.square().sum(1).sqrt())
    act = activation_of(lm)
    own = x @ lm.weight(at.weight).T
    wanted = (torch.nn.functional.silu(own) - torch.nn.functional.silu(own + added)).square().sum(1).sqrt()
    assert torch.allclose(token_scores(own_outputs(at, x, act), added, act), wanted, atol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "opt", "neox"])
def test_every_model_has_an_activation(architecture):
    assert activation_of(tiny_lm(architecture))(torch.ones(2)).shape == (2,)


def test_row_means():
    counted = torch.tensor([True, True, False, True, True])
    found = row_means(torch.tensor([1.0, 3.0, 9.0, 4.0, 6.0]), torch.tensor([0, 0, 0, 1, 1]), counted, 3)
    assert found.tolist() == [2.0, 5.0, 0.0]


def test_margins():
    values = torch.tensor([-1.0, 2.0, 4.0])
    assert hinge(values, False) == 2.0 and hinge(values, True) == 3.0 and hinge(-values.abs(), True) == 0.0
    scores = torch.tensor([3.0, 5.0, 2.0])  # two rows of the edit, and the irrelevant one
    terms = [(2 - 3 + 2) / 2, 2 - 1.5, (4 - 3) / 2]
    assert float(margin_loss(scores, (1.5, 4.0, 2.0), False)) == pytest.approx(sum(terms))
    assert float(margin_loss(scores, (1.5, 4.0, 2.0), True)) == pytest.approx(1 + 0.5 + 1)

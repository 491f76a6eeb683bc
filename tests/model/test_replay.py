"""Outputs that are given again: the same bits as computing them, from modules whose own forward does not run."""

import pytest
import torch
from torch import nn

from editbench.memory_based.projection import SECOND, Projection
from editbench.memory_based.target_rows import TargetRows
from editbench.model.hooks import hooked
from editbench.model.replay import recorded, replayed
from tests.edits import edits
from tests.small_runs import architectures
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm


@pytest.mark.parametrize("architecture", architectures(TINY_ARCHITECTURES))
def test_losses_and_gradients_have_the_bits_of_a_layer_that_runs_again(architecture):
    lm = tiny_lm(architecture)
    rows = [(lm.encode(r.prompt).ids, lm.continuation(r.target)) for r in edits(3)]
    data = TargetRows(lm, Projection.of(lm, 1, SECOND), rows)
    before = data._before
    assert data.projection.module in before and lm.attention(1) in before
    found = []
    for outputs in (before, {}, before):
        data._before = outputs
        shift = torch.full((data.projection.d_out,), 0.1, requires_grad=True)
        with torch.enable_grad():
            nll, best = data.nll(hooked(data.projection.module, lambda y, shift=shift: 1.5 * y + shift))
            found.append((nll, best, *torch.autograd.grad(nll.sum(), shift)))
    assert all(torch.equal(*pair) for other in found[1:] for pair in zip(found[0], other, strict=True))


class Layer(nn.Module):
    """Four linear modules, the first one called twice, the second one inside another; ``last`` is changed in place."""

    def __init__(self):
        super().__init__()
        self.twice, self.outer, self.last = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 2)
        self.behind = nn.Linear(2, 2)

    def forward(self, x):
        y = self.last(self.outer(self.twice(self.twice(x))))
        y += x
        return self.behind(y)


@torch.no_grad()
def test_only_what_is_done_once_before_the_last_module_is_given_again():
    layer, x = Layer(), torch.tensor([[1.0, -2.0]])
    own = layer(x)
    with recorded(layer, layer.last) as outputs:
        layer(x)
    assert set(outputs) == {layer.outer, layer.last}
    layer.outer.forward = ran = lambda y: 1 / 0
    for _ in range(2):
        with replayed(outputs), hooked(layer.last, lambda y: y + 1):
            changed = layer(x)
        assert torch.allclose(changed, own + layer.behind.weight.sum(1))
    assert layer.outer.forward is ran and "forward" not in vars(layer.last)
    with pytest.raises(ZeroDivisionError):
        layer(x)

"""Low-rank blocks: their starts, and a block as a change of the weight."""

import torch

from editbench.memory_based.low_rank_block import added, as_delta, initial_factors
from editbench.memory_based.projection import Projection
from tests.tiny_models import tiny_lm


def test_starts():
    at = Projection.of(tiny_lm(), 1, "second")
    a, b = initial_factors(at, 3, 0, "block 0", torch.zeros(1))
    assert a.shape == (at.d_in, 3) and b.shape == (3, at.d_out) and not b.any()
    assert 0.8 * at.d_in**-0.5 < float(a.abs().max()) <= at.d_in**-0.5
    others = [
        initial_factors(at, 3, *some, torch.zeros(1))[0] for some in ((0, "block 0"), (1, "block 0"), (0, "block 1"))
    ]
    assert [torch.equal(a, other) for other in others] == [True, False, False]


def test_a_block_as_a_change_of_the_weight():
    a, b, x = torch.randn(7, 2), torch.randn(2, 5), torch.randn(4, 7)
    delta = as_delta(a, b, 3.0)
    assert torch.allclose(x @ delta.delta(torch.float32).T, 3.0 * x @ a @ b, atol=1e-5)


def test_added_within_the_block_alone():
    module, a, b, x = torch.nn.Linear(7, 5), torch.randn(7, 2), torch.randn(2, 5), torch.randn(4, 7)
    before = module(x)
    with added(module, a, b, 3.0):
        assert torch.allclose(module(x), before + 3.0 * x @ a @ b, atol=1e-5)
    assert torch.equal(module(x), before)

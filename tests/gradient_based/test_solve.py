"""Changes of weights: both forms of the ridge solve, factors or their product, norms."""

import pytest
import torch

from editbench.gradient_based.solve import norm, product, ridge_change, ridge_factor
from editbench.ledger import Dense, LowRank


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whole(change):
    return change.delta if isinstance(change, Dense) else change.left @ change.right.T


@pytest.mark.parametrize(("tokens", "kind"), [(3, LowRank), (9, Dense), (30, Dense)])
def test_the_ridge_solve(tokens, kind):
    h, v = random(tokens, 12), random(tokens, 8, seed=1)
    change = ridge_change("w", h, v, 0.5)
    wanted = torch.linalg.solve(h.T @ h + 0.5 * torch.eye(12, dtype=h.dtype), h.T @ v).T
    assert isinstance(change, kind) and torch.allclose(whole(change), wanted, rtol=1e-9)
    assert torch.allclose(ridge_factor(h, v, 0.5).T @ h, wanted, rtol=1e-9)
    assert norm(change) == pytest.approx(float(wanted.norm()))


def test_factors_are_kept_where_they_are_smaller():
    assert isinstance(product("w", random(8, 2), random(12, 2)), LowRank)
    dense = product("w", random(8, 5), random(12, 5, seed=1))
    assert torch.equal(dense.delta, random(8, 5) @ random(12, 5, seed=1).T)

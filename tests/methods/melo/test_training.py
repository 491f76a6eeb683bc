"""A block against the plain way: whole model, one edit a row, autograd."""

import pytest

from editbench.memory_based.low_rank_block import initial_factors
from editbench.memory_based.projection import Projection
from editbench.methods.melo import MELOConfig
from editbench.methods.melo.rows import EditRows
from editbench.methods.melo.training import train_block
from tests.golden_edits import furthest, relative
from tests.oracles import melo as oracle
from tests.small_runs import REQUESTS, architectures
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm


def trained(lm, which="second", steps=4, **settings):
    at = [Projection.of(lm, layer, which) for layer in (1, 2)]
    rows = EditRows(lm, Projection.of(lm, 0, which), at[0], REQUESTS[:3], False)
    config = MELOConfig(layers=[0, 1, 2], steps=steps, scale=3.0, learning_rate=0.02, **settings)
    start = [initial_factors(one, 2, 0, "block 0", rows.keys) for one in at]
    return train_block(rows, at, start, config), start, at


@pytest.mark.parametrize("architecture", architectures([a for a in TINY_ARCHITECTURES if not a.startswith("opt")]))
def test_a_block(architecture):
    lm = tiny_lm(architecture, "float32" if architecture.startswith("gemma") else "float64")
    (factors, losses), start, at = trained(lm)
    rows = [(lm.encode(r.prompt).ids, lm.continuation(r.target)) for r in REQUESTS[:3]]
    wanted, of_it = oracle.train_block(lm, [one.module for one in at], rows, start, 4, 0.02, 3.0)
    assert furthest(losses, of_it) < 1e-4
    for (a, b), (c, d) in zip(factors, wanted, strict=True):
        assert relative(a, c) < 1e-3 and relative(b, d) < 1e-3


def test_the_rate_is_halved_every_twenty_steps():
    lm = tiny_lm("gpt2", "float64")
    (factors, losses), start, at = trained(lm, "first", steps=23)
    rows = [(lm.encode(r.prompt).ids, lm.continuation(r.target)) for r in REQUESTS[:3]]
    wanted, of_it = oracle.train_block(lm, [one.module for one in at], rows, start, 23, 0.02, 3.0)
    assert furthest(losses, of_it) < 1e-5
    assert all(relative(b, d) < 1e-4 for (_, b), (_, d) in zip(factors, wanted, strict=True))

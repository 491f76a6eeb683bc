"""TIES against the same number by number."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editbench.methods.wise.merging import ties, trimmed
from tests.oracles import wise as oracle


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 4),
    rows=st.integers(1, 4),
    columns=st.integers(1, 6),
    density=st.floats(0.05, 1.0),
    filled=st.floats(0.1, 1.0),
)
def test_ties(seed, count, rows, columns, density, filled):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, rows, columns)
    deltas = torch.randn(shape, generator=generator, dtype=torch.float64)
    deltas *= torch.rand(shape, generator=generator) < filled
    weights = torch.rand(count, generator=generator).add(0.1).tolist()
    wanted = oracle.ties(list(deltas), weights, density)
    assert torch.allclose(ties(list(deltas), weights, density), wanted)


def test_numbers_of_one_memory_alone_stay_whole():
    one, other = torch.tensor([[4.0, 0.0, 3.0]]), torch.tensor([[0.0, 2.0, -1.0]])
    assert ties([one, other], [0.5, 0.5], 1.0).tolist() == [[4.0, 2.0, 3.0]]
    assert trimmed(one, 0.5).tolist() == [[4.0, 0.0, 0.0]]

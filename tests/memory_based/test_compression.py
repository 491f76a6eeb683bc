"""Stores of a difference: their errors and sizes."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editbench.memory_based import compression
from tests.golden_edits import relative


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 5),
    columns=st.integers(1, 19),
    bits=st.sampled_from([2, 4, 8]),
    zero=st.booleans(),
)
def test_quantised(seed, rows, columns, bits, zero):
    delta = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    delta[0] *= 0 if zero else 1e3
    packed = compression.quantised(delta, bits)
    assert packed.nbytes == compression.quantised_bytes(delta.shape, bits)
    error = (packed.delta(torch.float64) - delta).abs().amax(1)
    bound = delta.abs().amax(1) / (2**bits - 1)
    assert bool((error <= bound * (1 + 1e-6)).all())


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), tokens=st.integers(1, 7), error=st.sampled_from([0.0, 0.01, 0.2, 0.9]))
def test_lowrank(seed, tokens, error):
    draw = torch.Generator().manual_seed(seed)
    delta = torch.randn(9, 12, generator=draw, dtype=torch.float64).sign() * 0.01
    inputs = torch.randn(tokens, 12, generator=draw, dtype=torch.float64)
    packed = compression.low_rank(delta, inputs, error)
    rank = packed.parts["left"].shape[1]
    assert rank <= tokens and packed.nbytes == (9 + 12) * rank * 2
    wanted = inputs @ delta.T
    assert relative(inputs @ packed.delta(torch.float64).T, wanted) <= error + 2e-3  # float16
    if rank > 1:  # the smallest: the best map of one rank less is not near enough
        singular = torch.linalg.svdvals(wanted)
        assert singular[rank - 1 :].norm() > error * singular.norm()


def test_dense_is_exact():
    delta = torch.randn(5, 7)
    assert torch.equal(compression.dense(delta, torch.float32).delta(torch.float32), delta)
    assert compression.dense(delta, torch.bfloat16).nbytes == 5 * 7 * 2


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 5), columns=st.integers(1, 19), share=st.floats(0, 1))
def test_sparse_is_exact(seed, rows, columns, share):
    generator = torch.Generator().manual_seed(seed)
    delta = torch.randn(rows, columns, generator=generator) * (torch.rand(rows, columns, generator=generator) < share)
    packed = compression.sparse(delta)
    assert torch.equal(packed.delta(torch.float32), delta)
    assert packed.nbytes == 4 * int((delta != 0).sum()) + -(-delta.numel() // 8) + 16

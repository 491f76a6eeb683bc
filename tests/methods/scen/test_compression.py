"""Stores of an expert: their errors, sizes and answers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editbench.methods.scen import compression
from tests.golden_edits import relative
from tests.methods.scen.given_neurons import DENSE, IDS, REQUESTS, answers, scen


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


@pytest.mark.parametrize("store", ["lowrank", "quantised", "auto"])
def test_compressed_experts_answer_as_the_dense_ones(store):
    dense, small = scen(expert_steps=40), scen(expert_steps=40, expert_store=store)
    dense.edit(REQUESTS)
    result = small.edit(REQUESTS)
    assert answers(small) == answers(dense)
    assert small.footprint().host < dense.footprint().host
    if store == "auto":
        for id, facts in result.details["edits"].items():
            whole = dense.edit([r for r in REQUESTS if r.id == id]).details["edits"][id]
            assert facts["loss"] <= whole["loss"] + 0.05 and facts["bytes"] < DENSE


def test_auto_keeps_an_expert_dense_rather_than_change_its_answer():
    editor = scen(expert_store="auto", loss_margin=-1.0)  # no store can lower the loss by that
    assert editor.edit(REQUESTS[:2]).details["edits"][IDS[0]]["store"] == "dense"

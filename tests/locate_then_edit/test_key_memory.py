"""Memory of keys: batches are forgotten with the ledger's, compacted, saved and restored to the bit."""

import pytest
import torch

from editbench.locate_then_edit.key_memory import KeyMemory
from editbench.locate_then_edit.solver import FullSolver, NeuronSubsetSolver

D, LAYERS = 12, (3, 5)


def keys(seed, n=5):
    generator = torch.Generator().manual_seed(seed)
    return {layer: torch.randn(D, n, generator=generator, dtype=torch.float64) for layer in LAYERS}


def memory(kind):
    x = torch.randn(D, 4 * D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return KeyMemory({layer: kind(x @ x.T / D, 2.0, 0.0, "C", torch.float64) for layer in LAYERS})


def solved(memory):
    return {layer: solver.solve(keys(99)[layer]) for layer, solver in memory.key_solvers.items()}


def same(one, other):
    return all(torch.equal(one[layer], other[layer]) for layer in LAYERS)


@pytest.mark.parametrize("kind", [FullSolver, NeuronSubsetSolver])
def test_batches_that_the_ledger_rolls_back_are_forgotten(kind):
    kept, whole = memory(kind), memory(kind)
    for batch in range(2):
        whole.add(keys(batch), batch)
    kept.add(keys(0), 0)
    whole.catch_up(1)
    assert whole.batches == kept.batches == [(0, 5)]
    assert same(solved(whole), solved(kept))
    whole.clear()
    assert whole.batches == [] and whole.state(0) == {}
    assert same(solved(whole), solved(memory(kind)))


@pytest.mark.parametrize("kind", [FullSolver, NeuronSubsetSolver])
def test_compacted_batches_cannot_be_forgotten_but_restored(kind):
    filled = memory(kind)
    for batch in range(3):  # 15 keys are more than d_ff
        filled.add(keys(batch), batch)
    filled.catch_up(3)
    assert filled.batches == [(2, 0)]  # nothing before it can be forgotten
    filled.add(keys(3), 3)
    other = memory(kind)
    other.restore({name: tensor.clone() for name, tensor in filled.state(4).items()}, 4)
    assert other.batches == filled.batches and same(solved(other), solved(filled))
    with pytest.raises(ValueError, match="cannot forget one by one"):
        filled.catch_up(2)


@pytest.mark.parametrize("kind", [FullSolver, NeuronSubsetSolver])
def test_keys_of_another_stream_stay(kind):
    before, whole, here = memory(kind), memory(kind), memory(kind)
    for batch in range(3):
        whole.add(keys(batch, 1), batch)
        if batch < 2:
            before.add(keys(batch, 1), batch)
    here.restore({name: tensor.clone() for name, tensor in before.state(2).items()}, 0)  # into a ledger without batches
    here.catch_up(0)
    here.add(keys(2, 1), 0)
    here.catch_up(1)
    assert same(solved(here), solved(whole))
    here.catch_up(0)  # the ledger rolled its own batch back
    assert same(solved(here), solved(before))


def test_a_memory_of_other_layers_is_refused():
    other = memory(FullSolver)
    other.add(keys(0), 0)
    state = {name.replace("5.", "6."): tensor for name, tensor in other.state(1).items()}
    with pytest.raises(ValueError, match=r"no memory of keys of layers \[3, 5\]"):
        memory(FullSolver).restore(state, 0)


def test_tensors_are_base_and_keys():
    filled = memory(FullSolver)
    filled.add(keys(0), 0)
    assert [tuple(t.shape) for t in filled.tensors()] == [(D, D), (D, 5), (0, 0)] * 2

"""Woodbury, blocks and compacting beside the systems written out."""

import pytest
import torch

from editbench.locate_then_edit import solver as solver_module
from editbench.locate_then_edit.solver import FullSolver, NeuronSubsetSolver, SingularError, factor

D = 24
WEIGHT = 3.0


def matrix(seed, columns):
    return torch.randn(D, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance():
    x = matrix(0, 3 * D)
    return x @ x.T / x.shape[1]


def plain(earlier, keys, index=None):
    whole = WEIGHT * covariance() + sum(k @ k.T for k in earlier)
    s = torch.arange(D) if index is None else index
    out = torch.zeros_like(keys)
    out[s] = torch.linalg.solve(whole[s][:, s] + keys[s] @ keys[s].T, keys[s])
    return out


def make_solver(kind, dtype=torch.float64):
    return kind(covariance(), WEIGHT, 0.0, "C", dtype)


@pytest.mark.parametrize("kind", [FullSolver, NeuronSubsetSolver])
@pytest.mark.parametrize("n", [1, 5, D, 2 * D])
def test_solve(kind, n):
    assert torch.allclose(make_solver(kind).solve(matrix(1, n)), plain([], matrix(1, n)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [FullSolver, NeuronSubsetSolver])
def test_earlier_keys_count_before_and_after_compacting(kind):
    solver, earlier, compacted = make_solver(kind), [], 0
    for i in range(8):
        keys = matrix(10 + i, 7)
        assert torch.allclose(solver.solve(keys), plain(earlier, keys), rtol=1e-8, atol=1e-12)
        solver.add(keys)
        earlier.append(keys)
        if solver.full:
            solver.compact()
            compacted += 1
            assert solver.keys.shape[1] == 0
    assert compacted == 4 and solver.compacted


@pytest.mark.parametrize("block", [1, 4, 5])
@pytest.mark.parametrize("kind", [FullSolver, NeuronSubsetSolver])
def test_keys_in_whatever_batches_are_absorbed_in_the_same_blocks(kind, block, monkeypatch):
    monkeypatch.setattr(solver_module, "BLOCK", block)
    single, several, earlier = make_solver(kind), make_solver(kind), matrix(1, 19)
    for i in range(19):
        assert torch.allclose(single.solve(matrix(2, 2)), plain([earlier[:, :i]], matrix(2, 2)), rtol=1e-8, atol=1e-12)
        single.add(earlier[:, i : i + 1])
    single.solve(matrix(2, 2))
    restored = make_solver(kind)
    restored.restore(single.state())
    assert torch.equal(restored.solve(matrix(2, 2)), single.solve(matrix(2, 2)))
    several.add(single.keys) if kind is NeuronSubsetSolver else several.restore({"keys": single.keys})
    assert torch.equal(several.solve(matrix(2, 2)), single.solve(matrix(2, 2)))
    for keep in (17, 8, 3, 0):
        single.forget(keep)
        expected = plain([earlier[:, :keep]], matrix(2, 2))
        assert torch.allclose(single.solve(matrix(2, 2)), expected, rtol=1e-8, atol=1e-12)
        restored = make_solver(kind)
        restored.restore(single.state())
        assert torch.equal(restored.solve(matrix(2, 2)), single.solve(matrix(2, 2)))


@pytest.mark.parametrize("kind", [FullSolver, NeuronSubsetSolver])
def test_added_keys_take_no_memory_anew(kind):
    solver, places = make_solver(kind), set()
    for i in range(200):
        solver.add(matrix(i, 1))
        solver.solve(matrix(0, 1))
        places.add(solver.keys.data_ptr())
        if solver.full:
            solver.compact()
    assert len(places) == 1


def test_blocks():
    solver, index = make_solver(NeuronSubsetSolver), torch.tensor([3, 20, 7, 0, 11])
    solver.add(matrix(1, 4))
    found = solver.solve(matrix(2, 3), index)
    assert torch.allclose(found, plain([matrix(1, 4)], matrix(2, 3), index), rtol=1e-9, atol=1e-12)
    untouched = torch.ones(D, dtype=torch.bool)
    untouched[index] = False
    assert not found[untouched].any()


@pytest.mark.parametrize("kind", [FullSolver, NeuronSubsetSolver])
def test_state_and_forgetting(kind):
    solver = make_solver(kind)
    for i in range(6):
        solver.add(matrix(i, 6))
        if i % 4 == 3:
            solver.compact()
    other = make_solver(kind)
    other.restore({name: tensor.clone() for name, tensor in solver.state().items()})
    assert torch.equal(other.solve(matrix(9, 2)), solver.solve(matrix(9, 2)))
    sizes = [sum(tensor.nbytes for tensor in one.state().values()) for one in (other, solver)]
    assert sizes[0] == sizes[1] > 0
    kept = solver.solve(matrix(9, 2))
    size = solver.keys.shape[1]
    solver.add(matrix(10, 3))
    solver.forget(size)
    assert torch.equal(solver.solve(matrix(9, 2)), kept)


@pytest.mark.parametrize("kind", [FullSolver, NeuronSubsetSolver])
def test_float32(kind):
    found = make_solver(kind, torch.float32).solve(matrix(1, 5).float())
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), plain([], matrix(1, 5)), rtol=1e-3, atol=1e-5)


def test_a_singular_covariance_is_refused_with_a_remedy():
    x = matrix(0, D // 2)
    with pytest.raises(ValueError, match=r"layer 3 \(24×24\) is not positive definite.*covariance_tokens.*ridge"):
        factor(x @ x.T, 0.0, "the covariance of layer 3")
    factor(x @ x.T, 0.01, "the covariance of layer 3")
    with pytest.raises(SingularError):
        NeuronSubsetSolver(x @ x.T * 0, 1.0, 0.0, "C", torch.float64).solve(matrix(1, 2))

"""The null space, its file, and systems within it beside the matrices written out."""

import pytest
import torch

from editbench import Resources
from editbench.locate_then_edit import solver as solver_module
from editbench.methods.alphaedit.null_space import NullSpace, NullSpaceSolver, null_space

D, L2 = 24, 0.7


def matrix(seed, columns):
    return torch.randn(D, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance():
    """Eigenvalues 1, 2, …, 24."""
    basis = torch.linalg.qr(matrix(0, D)).Q
    return basis @ torch.diag(torch.arange(1.0, D + 1, dtype=torch.float64)) @ basis.T


def projection(threshold):
    u, s, _ = torch.linalg.svd(covariance())
    return u[:, s < threshold] @ u[:, s < threshold].T


@pytest.mark.parametrize(("threshold", "kept"), [(0.5, 0), (5.5, 5), (12.5, 12), (20.5, 20), (30.0, 24)])
def test_projection(threshold, kept):
    space = NullSpace.of(covariance(), threshold)
    assert space.share == pytest.approx(kept / D)
    assert space.basis.shape[1] == min(kept, D - kept)
    assert torch.allclose(space.project(matrix(1, 3)), projection(threshold) @ matrix(1, 3), atol=1e-12)


@pytest.mark.parametrize("threshold", [5.5, 20.5])
@pytest.mark.parametrize("block", [3, 64])
def test_solve(threshold, block, monkeypatch):
    """Against the published matrix P (M + KKᵀ) + l2 I, before and after keys are compacted."""
    monkeypatch.setattr(solver_module, "BLOCK", block)
    space, p, earlier = NullSpace.of(covariance(), threshold), projection(threshold), []
    solver = NullSpaceSolver(space, L2, "layer 0", torch.float64)
    for i in range(5):
        keys = matrix(10 + i, 4)
        whole = p @ sum((k @ k.T for k in [*earlier, keys]), torch.zeros(D, D, dtype=torch.float64))
        expected = torch.linalg.solve(whole + L2 * torch.eye(D, dtype=torch.float64), p @ keys)
        assert torch.allclose(solver.solve(keys), expected, rtol=1e-9, atol=1e-12)
        solver.add(keys)
        earlier.append(keys)
        if solver.full:
            solver.compact()
    assert solver.compacted and solver.base.shape == (D, D)
    other = NullSpaceSolver(space, L2, "layer 0", torch.float64)
    other.restore(solver.state())
    assert torch.equal(other.solve(matrix(9, 2)), solver.solve(matrix(9, 2)))


def test_no_room_of_d_ff_squared_before_that():
    solver = NullSpaceSolver(NullSpace.of(covariance(), 21.5), L2, "layer 0", torch.float64)
    solver.add(matrix(1, 4))
    solver.solve(matrix(2, 1))
    assert max(tensor.numel() for tensor in solver.tensors()) == 4 * D


def test_the_cache_is_of_the_very_covariance(tmp_path):
    resources = Resources(cache=tmp_path)
    found = null_space(covariance(), 5.5, resources)
    (file,) = (tmp_path / "null_space").iterdir()
    assert found.digest in file.name and list(resources.costs.digests) == [f"null_space/{file.name}"]
    again = null_space(covariance(), 5.5, resources)
    assert torch.equal(again.basis, found.basis) and again.inside == found.inside
    other = null_space(covariance() * (1 + 1e-15), 5.5, resources)
    assert other.digest != found.digest and len(list((tmp_path / "null_space").iterdir())) == 2
    file.write_bytes(file.read_bytes()[:90])
    with pytest.raises(ValueError, match=r"cached null space .* is damaged"):
        null_space(covariance(), 5.5, resources)

"""Key solvers: linear systems in λC + Σ kkᵀ, in float64 unless the config says otherwise.

A :class:`KeySolver` is a d_ff × d_ff matrix λC + Σ kkᵀ that grows by the keys of the edits made. :class:`FullSolver`
keeps its Cholesky factor and treats the keys as a low-rank addition (Woodbury): a batch of n edits after m others costs
O(d_ff² n + d_ff (m + n)²). :class:`NeuronSubsetSolver` solves on a subset of the neurons, another one each time: it
gathers that block and factors it, O(|S|³).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


SOLVE_DTYPES = {"float64": torch.float64, "float32": torch.float32}


class SingularError(ArithmeticError):
    """A matrix that should be positive definite is not."""


def factor(covariance: Tensor, ridge: float, name: str) -> Tensor:
    """Lower Cholesky factor of a covariance (n, n), float64, with ``ridge`` times its mean diagonal added.

    A matrix that is not positive definite (too few tokens for its size) raises a ValueError with a remedy.
    """
    try:
        return cholesky(with_ridge(covariance.double(), ridge), name)
    except SingularError as error:
        raise ValueError(
            f"{error}: take it over more text (covariance_tokens) or set ridge (0.01 adds 1 % of its mean diagonal)"
        ) from error


def with_ridge(matrix: Tensor, ridge: float) -> Tensor:
    """A copy of ``matrix`` (n, n) with ``ridge`` times the mean of its diagonal added to the diagonal."""
    out = matrix.clone()
    out.diagonal().add_(ridge * matrix.diagonal().mean())
    return out


def cholesky(matrix: Tensor, name: str) -> Tensor:
    """Lower Cholesky factor of ``matrix`` (n, n); a :class:`SingularError` if it is not positive definite."""
    lower: Tensor
    lower, info = torch.linalg.cholesky_ex(matrix)
    if int(info) != 0 or not bool(torch.isfinite(lower).all()):
        raise SingularError(f"{name} ({len(matrix)}×{len(matrix)}) is not positive definite")
    return lower


class KeySolver(ABC):
    """λC + Σ kkᵀ over the keys added so far.

    Attributes:
        base: (d_ff, d_ff) λC and the keys that were compacted into it, in a form of the subclass's choice.
        keys: (d_ff, m) the other keys, in a form of the subclass's choice.
        compacted: Whether ``base`` holds keys.
    """

    def __init__(self, base: Tensor, name: str) -> None:
        self.base, self.name, self.compacted = base, name, False
        self.keys = base.new_zeros((len(base), 0))

    @abstractmethod
    def solve(self, keys: Tensor, index: Tensor | None = None) -> Tensor:
        """(λC + Σ kkᵀ + KKᵀ)⁻¹ K, restricted to the neurons ``index``.

        Args:
            keys: K (d_ff, n).
            index: (|S|,) the neurons that take part; None for all.

        Returns:
            (d_ff, n), zero at neurons that take no part; this object's dtype and device. A system that cannot be
            solved raises a :class:`SingularError`.
        """

    @abstractmethod
    def add(self, keys: Tensor) -> None:
        """Keep K (d_ff, n) for good."""

    @abstractmethod
    def compact(self) -> None:
        """Add the keys to the base once they are no fewer than d_ff, so that memory stops growing."""

    def forget(self, keep: int) -> None:
        """Drop all added keys but the first ``keep``."""
        self.keys = self.keys[:, :keep].clone()

    def memory_bytes(self) -> int:
        """Bytes kept for the keys of earlier edits; a base counts once it holds keys."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.state().values())

    def state(self) -> dict[str, Tensor]:
        """Tensors that :meth:`restore` needs, beside the covariance."""
        return {"keys": self.keys, **({"base": self.base} if self.compacted else {})}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a saved state, bit for bit; a ValueError if the base holds keys by now and the state has no base."""
        if self.compacted and "base" not in state:
            raise ValueError(f"{self.name}: keys were compacted since that state was saved; make a new editor")
        self.keys, self.compacted = state["keys"].to(self.base), "base" in state
        if self.compacted:
            self.base = state["base"].to(self.base)

    def _full(self) -> bool:
        return self.keys.shape[1] >= len(self.base)


class FullSolver(KeySolver):
    """All neurons. ``base`` is the Cholesky factor L of λC, ``keys`` are whitened: L⁻¹K."""

    def __init__(self, covariance: Tensor, weight: float, ridge: float, name: str, dtype: torch.dtype) -> None:
        """Factor λC.

        Args:
            ridge: Added to C's diagonal, as a fraction of its mean.
            dtype: Of all solves; the factor is taken in float64.
        """
        super().__init__((factor(covariance, ridge, name) * weight**0.5).to(dtype), name)

    def solve(self, keys: Tensor, index: Tensor | None = None) -> Tensor:
        """With Y = L⁻¹[M, K] and E its columns of K: L⁻ᵀ Y (I + YᵀY)⁻¹ E (Woodbury)."""
        assert index is None
        n, whitened = keys.shape[1], self._whiten(keys)
        both = torch.cat([self.keys, whitened], dim=1)  # (d_ff, m + n)
        if both.shape[1] > len(self.base):
            inner = cholesky(_eye_plus(both @ both.T), self.name)  # (d_ff, d_ff)
            solved = torch.cholesky_solve(whitened, inner)
        else:
            inner = cholesky(_eye_plus(both.T @ both), self.name)  # (m + n, m + n)
            last = torch.eye(len(inner), dtype=both.dtype, device=both.device)[:, len(inner) - n :]
            solved = both @ torch.cholesky_solve(last, inner)
        out: Tensor = torch.linalg.solve_triangular(self.base.mT, solved, upper=True)
        return out

    def add(self, keys: Tensor) -> None:
        """Whiten K and keep it."""
        self.keys = torch.cat([self.keys, self._whiten(keys)], dim=1)

    def compact(self) -> None:
        """L ← L · chol(I + YYᵀ), which is the factor of the sum."""
        if self._full():
            self.base = self.base @ cholesky(_eye_plus(self.keys @ self.keys.T), self.name)
            self.keys, self.compacted = self.keys[:, :0].clone(), True

    def _whiten(self, keys: Tensor) -> Tensor:
        out: Tensor = torch.linalg.solve_triangular(self.base, keys.to(self.base), upper=False)
        return out


class NeuronSubsetSolver(KeySolver):
    """Any subset of the neurons. ``base`` is λC itself, ``keys`` are the keys as they are."""

    def __init__(self, covariance: Tensor, weight: float, ridge: float, name: str, dtype: torch.dtype) -> None:
        """Keep λC; arguments as for :class:`FullSolver`."""
        super().__init__(with_ridge(covariance.double(), ridge).mul_(weight).to(dtype), name)

    def solve(self, keys: Tensor, index: Tensor | None = None) -> Tensor:
        """Gathers the block (|S|² numbers), adds the keys' products and factors it: O(|S|² (m + n) + |S|³)."""
        keys = keys.to(self.base)
        index = torch.arange(len(keys), device=keys.device) if index is None else index.to(keys.device)
        chosen = keys[index]  # (|S|, n)
        both = torch.cat([self.keys[index], chosen], dim=1)  # (|S|, m + n)
        block = self.base[index[:, None], index]
        block.addmm_(both, both.T)
        out = torch.zeros_like(keys)
        out[index] = torch.cholesky_solve(chosen, cholesky(block, self.name))
        return out

    def add(self, keys: Tensor) -> None:
        """Keep K."""
        self.keys = torch.cat([self.keys, keys.to(self.base)], dim=1)

    def compact(self) -> None:
        """λC ← λC + Σ kkᵀ."""
        if self._full():
            self.base = self.base + self.keys @ self.keys.T
            self.keys, self.compacted = self.keys[:, :0].clone(), True


def _eye_plus(matrix: Tensor) -> Tensor:
    matrix.diagonal().add_(1.0)
    return matrix

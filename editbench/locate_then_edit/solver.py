"""Key solvers: linear systems in λC + Σ kkᵀ (d_ff, d_ff), to which the keys of edits are added.

:class:`FullSolver` keeps the Cholesky factor of λC and treats the keys as a low-rank addition (Woodbury): a batch of n
edits after m others costs O(d_ff² n + d_ff (m + n)²). :class:`NeuronSubsetSolver` solves on a subset of the neurons,
another one each time: it gathers that block and factors it, O(|S|² (m + n) + |S|³).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

SOLVE_DTYPES = {"float64": torch.float64, "float32": torch.float32}


class SingularError(ArithmeticError):
    """A matrix that should be positive definite is not."""


def factor(covariance: Tensor, ridge: float, name: str) -> Tensor:
    """Lower Cholesky factor of a covariance (n, n), float64, with ``ridge`` times its mean diagonal added."""
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
    """Lower Cholesky factor of ``matrix`` (n, n), or a :class:`SingularError`."""
    lower: Tensor
    lower, info = torch.linalg.cholesky_ex(matrix)
    if int(info) != 0 or not bool(torch.isfinite(lower).all()):
        raise SingularError(f"{name} ({len(matrix)}×{len(matrix)}) is not positive definite")
    return lower


class KeySolver(ABC):
    """λC + Σ kkᵀ over the keys added so far; subclasses choose the form in which base and keys are kept.

    Attributes:
        base: (d_ff, d_ff) λC and the keys that were compacted into it.
        keys: (d_ff, m) the other keys.
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
            index: (|S|,) neurons; None for all.

        Returns:
            (d_ff, n), zero at other neurons; in this object's dtype, on its device. A system that cannot be solved
            raises a :class:`SingularError`.
        """

    @abstractmethod
    def _form(self, keys: Tensor) -> Tensor:
        """Keys (d_ff, n) in the form in which they are kept."""

    @abstractmethod
    def _sum(self) -> Tensor:
        """The base with all keys added (d_ff, d_ff)."""

    def add(self, keys: Tensor) -> None:
        """Keep K (d_ff, n)."""
        self.keys = torch.cat([self.keys, self._form(keys)], dim=1)

    def compact(self) -> None:
        """Add the keys to the base once they are no fewer than d_ff, so that memory stops growing."""
        if self.keys.shape[1] >= len(self.base):
            self.base, self.compacted = self._sum(), True
            self.forget(0)

    def forget(self, keep: int) -> None:
        """Drop all keys but the first ``keep``."""
        self.keys = self.keys[:, :keep].clone()

    def state(self) -> dict[str, Tensor]:
        """Tensors that :meth:`restore` needs, beside the covariance."""
        return {"keys": self.keys, **({"base": self.base} if self.compacted else {})}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a saved state, bit for bit; a ValueError if it lacks the base, to which keys were added since."""
        if self.compacted and "base" not in state:
            raise ValueError(f"{self.name}: keys were compacted since that state was saved; make a new editor")
        self.keys, self.compacted = state["keys"].to(self.base), "base" in state
        if self.compacted:
            self.base = state["base"].to(self.base)


class FullSolver(KeySolver):
    """Solves on all neurons. ``base`` is the Cholesky factor L of λC, ``keys`` are whitened: L⁻¹K."""

    def __init__(self, covariance: Tensor, weight: float, ridge: float, name: str, dtype: torch.dtype) -> None:
        """Factor λC in float64, for solves in ``dtype``; ``ridge`` times C's mean diagonal is added to its diagonal."""
        super().__init__((factor(covariance, ridge, name) * weight**0.5).to(dtype), name)

    def solve(self, keys: Tensor, index: Tensor | None = None) -> Tensor:
        """With Y = L⁻¹[M, K] and E its columns of K: L⁻ᵀ Y (I + YᵀY)⁻¹ E (Woodbury)."""
        assert index is None
        n, whitened = keys.shape[1], self._form(keys)
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

    def _form(self, keys: Tensor) -> Tensor:
        out: Tensor = torch.linalg.solve_triangular(self.base, keys.to(self.base), upper=False)
        return out

    def _sum(self) -> Tensor:
        """L · chol(I + YYᵀ), the factor of the sum."""
        return self.base @ cholesky(_eye_plus(self.keys @ self.keys.T), self.name)


class NeuronSubsetSolver(KeySolver):
    """Solves on any subset of the neurons. ``base`` is λC, ``keys`` are unchanged."""

    def __init__(self, covariance: Tensor, weight: float, ridge: float, name: str, dtype: torch.dtype) -> None:
        """Keep λC; arguments as for :class:`FullSolver`."""
        super().__init__(with_ridge(covariance.double(), ridge).mul_(weight).to(dtype), name)

    def solve(self, keys: Tensor, index: Tensor | None = None) -> Tensor:
        """Factors the block of λC + Σ kkᵀ + KKᵀ (|S|, |S|)."""
        keys = self._form(keys)
        index = torch.arange(len(keys), device=keys.device) if index is None else index.to(keys.device)
        chosen = keys[index]  # (|S|, n)
        both = torch.cat([self.keys[index], chosen], dim=1)  # (|S|, m + n)
        block = self.base[index[:, None], index]
        block.addmm_(both, both.T)
        out = torch.zeros_like(keys)
        out[index] = torch.cholesky_solve(chosen, cholesky(block, self.name))
        return out

    def _form(self, keys: Tensor) -> Tensor:
        return keys.to(self.base)

    def _sum(self) -> Tensor:
        return self.base + self.keys @ self.keys.T


def _eye_plus(matrix: Tensor) -> Tensor:
    matrix.diagonal().add_(1.0)
    return matrix

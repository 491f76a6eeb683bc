"""Key solvers: linear systems in λC + Σ kkᵀ (d_ff, d_ff), to which the keys of edits are added.

:class:`FullSolver` keeps the Cholesky factor of λC and treats the keys as a low-rank addition
(:class:`WoodburySolver`), whose own factor grows with the keys: a batch of n edits after m others costs
O(d_ff² n + d_ff m n). :class:`NeuronSubsetSolver` solves on a subset of the neurons, another one each time: it gathers
that block and factors it, O(|S|² n + |S|³).

Keys are absorbed in blocks of :data:`BLOCK`, whatever the batches are: a restored solver absorbs them again from the
keys alone, with the same bits. The keys of the last block, not yet full, are added in each solve.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from editbench.model.devices import in_float64, moved_to

BLOCK = 64  # keys that are absorbed together
SOLVE_MATRICES = 4  # in float64 that are there at once while a system is made: C, a copy, its factor, and that times √λ
SOLVE_DTYPES = {"float64": torch.float64, "float32": torch.float32}


class SingularError(ArithmeticError):
    """A matrix that should be positive definite is not."""


def factor(covariance: Tensor, ridge: float, name: str) -> Tensor:
    """Lower Cholesky factor of a covariance (n, n), float64, with ``ridge`` times its mean diagonal added."""
    try:
        return cholesky(with_ridge(in_float64(covariance), ridge), name)
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
        compacted: Whether ``base`` holds keys.
    """

    def __init__(self, base: Tensor, name: str) -> None:
        self.base, self.name, self.compacted = base, name, False
        self._rows = base.new_empty((0, len(base)))  # keys, and room for more: memory is not taken anew by each edit
        self._count, self._absorbed = 0, 0  # keys in it, and those of them that are absorbed

    @property
    def keys(self) -> Tensor:
        """The keys that are not in ``base`` (d_ff, m)."""
        return self._rows[: self._count].T

    @property
    def full(self) -> bool:
        """Whether the keys are at least d_ff / 2: time to :meth:`compact`, so that memory stops growing."""
        return self._count >= max(1, len(self.base) // 2)

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
    def tensors(self) -> list[Tensor]:
        """Base, keys, and what is kept to solve quickly."""

    @abstractmethod
    def _form(self, keys: Tensor) -> Tensor:
        """Keys (d_ff, n) in the form in which they are kept."""

    @abstractmethod
    def _sum(self) -> Tensor:
        """The base with all keys added (d_ff, d_ff)."""

    @abstractmethod
    def _absorb(self, keys: Tensor) -> None:
        """Prepare solves for the next block of kept keys (d_ff, BLOCK)."""

    @abstractmethod
    def _release(self, keep: int) -> int:
        """Undo :meth:`_absorb` for all keys but the first ``keep`` (whole blocks), or more; the number that stays."""

    def add(self, keys: Tensor) -> None:
        """Keep K (d_ff, n)."""
        self._keep(self._form(keys))

    def _keep(self, formed: Tensor) -> None:
        before, self._count = self._count, self._count + formed.shape[1]
        if self._count > len(self._rows):
            rows = self._rows.new_empty((max(self._count, 2 * len(self._rows), BLOCK), len(self.base)))
            rows[:before] = self._rows[:before]
            self._rows = rows
        self._rows[before : self._count] = formed.T

    def _pending(self) -> Tensor:
        """The keys of the last block (d_ff, < BLOCK), after all others are absorbed."""
        while self._count - self._absorbed >= BLOCK:
            block = self._rows[self._absorbed : self._absorbed + BLOCK].T
            self._absorb(block)
            self._absorbed += BLOCK
        return self.keys[:, self._absorbed :]

    def compact(self) -> None:
        """Add the keys to the base; they cannot be forgotten any more."""
        self.base, self.compacted = self._sum(), True
        self.forget(0)

    def forget(self, keep: int) -> None:
        """Drop all keys but the first ``keep``."""
        self._count = keep
        if keep < self._absorbed:
            self._absorbed = self._release(keep // BLOCK * BLOCK)

    def state(self) -> dict[str, Tensor]:
        """Tensors that :meth:`restore` needs, beside the covariance."""
        keys = self.keys.clone(memory_format=torch.contiguous_format)
        return {"keys": keys, **({"base": self.base} if self.compacted else {})}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a saved state, bit for bit; a ValueError if it lacks the base, to which keys were added since."""
        if self.compacted and "base" not in state:
            raise ValueError(f"{self.name}: keys were compacted since that state was saved; make a new editor")
        self.compacted = "base" in state
        if self.compacted:
            self.base = state["base"].to(self.base)
        self.forget(0)
        self._keep(state["keys"])


class WoodburySolver(KeySolver):
    """Solves on all neurons. ``base`` is a factor L of λC, ``keys`` are whitened: Y = L⁻¹K.

    Of absorbed keys it keeps the Cholesky factor R of I + YᵀY, which a block extends by its rows.
    """

    def __init__(self, base: Tensor, name: str) -> None:
        super().__init__(base, name)
        self._factor = base.new_empty((0, 0))  # R

    def solve(self, keys: Tensor, index: Tensor | None = None) -> Tensor:
        """L⁻ᵀ Y (I + YᵀY)⁻¹ E (Woodbury), with Y = L⁻¹[M, K] and the columns E of the identity that belong to K.

        With Z the absorbed keys, X the others and P = R⁻¹ZᵀX, the inverse ends with that of I + XᵀX - PᵀP.
        """
        assert index is None
        n, whitened = keys.shape[1], self._form(keys)
        last = torch.cat([self._pending(), whitened], dim=1)  # X (d_ff, < BLOCK + n)
        if self._absorbed + last.shape[1] > len(self.base):
            both = torch.cat([self.keys, whitened], dim=1)
            inner = cholesky(_eye_plus(both @ both.T), self.name)  # (d_ff, d_ff)
            solved = torch.cholesky_solve(whitened, inner)
        else:
            projected, inner = self._extension(last)
            ones = torch.eye(len(inner), dtype=last.dtype, device=last.device)[:, len(inner) - n :]
            right = torch.cholesky_solve(ones, inner)  # (< BLOCK + n, n)
            solved = last @ right
            if self._absorbed:
                left = torch.linalg.solve_triangular(self._factor.mT, projected @ right, upper=True)
                solved -= self.keys[:, : self._absorbed] @ left
        return self._back(solved)

    def tensors(self) -> list[Tensor]:
        """L, Y and R."""
        return [self.base, self.keys, self._factor]

    def _extension(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """P = R⁻¹ZᵀX (m, n), and the Cholesky factor (n, n) of I + XᵀX - PᵀP: with them R has X's rows too."""
        earlier = self.keys[:, : self._absorbed]
        projected = torch.linalg.solve_triangular(self._factor, earlier.T @ keys, upper=False)
        return projected, cholesky(_eye_plus(keys.T @ keys).sub_(projected.T @ projected), self.name)

    def _absorb(self, keys: Tensor) -> None:
        projected, corner = self._extension(keys)
        before, end = len(self._factor), len(self._factor) + keys.shape[1]
        extended = self._factor.new_zeros((end, end))
        extended[:before, :before] = self._factor
        extended[before:, :before], extended[before:, before:] = projected.T, corner
        self._factor = extended

    def _release(self, keep: int) -> int:
        self._factor = self._factor[:keep, :keep].clone()
        return keep

    def _form(self, keys: Tensor) -> Tensor:
        out: Tensor = torch.linalg.solve_triangular(self.base, moved_to(keys, self.base), upper=False)
        return out

    def _back(self, solved: Tensor) -> Tensor:
        """L⁻ᵀ times ``solved`` (d_ff, n)."""
        out: Tensor = torch.linalg.solve_triangular(self.base.mT, solved, upper=True)
        return out

    def _sum(self) -> Tensor:
        """L · chol(I + YYᵀ), the factor of the sum."""
        return self.base @ self._inner()

    def _inner(self) -> Tensor:
        """Cholesky factor of I + YYᵀ (d_ff, d_ff)."""
        return cholesky(_eye_plus(self.keys @ self.keys.T), self.name)


class FullSolver(WoodburySolver):
    """Solves on all neurons, with the Cholesky factor L of λC."""

    def __init__(self, covariance: Tensor, weight: float, ridge: float, name: str, dtype: torch.dtype) -> None:
        """Factor λC in float64, for solves in ``dtype``; ``ridge`` times C's mean diagonal is added to its diagonal."""
        super().__init__((factor(covariance, ridge, name) * weight**0.5).to(dtype), name)


class NeuronSubsetSolver(KeySolver):
    """Solves on any subset of the neurons. ``base`` is λC, ``keys`` are unchanged.

    Of absorbed keys it keeps their sum with the base.
    """

    def __init__(self, covariance: Tensor, weight: float, ridge: float, name: str, dtype: torch.dtype) -> None:
        """Keep λC; arguments as for :class:`FullSolver`."""
        super().__init__(with_ridge(in_float64(covariance), ridge).mul_(weight).to(dtype), name)
        self._total: Tensor | None = None

    def solve(self, keys: Tensor, index: Tensor | None = None) -> Tensor:
        """Factors the block of λC + Σ kkᵀ + KKᵀ (|S|, |S|)."""
        keys = self._form(keys)
        index = torch.arange(len(keys), device=keys.device) if index is None else index.to(keys.device)
        chosen = keys[index]  # (|S|, n)
        both = torch.cat([self._pending()[index], chosen], dim=1)  # (|S|, < BLOCK + n)
        block = (self.base if self._total is None else self._total)[index[:, None], index]
        block.addmm_(both, both.T)
        out = torch.zeros_like(keys)
        out[index] = torch.cholesky_solve(chosen, cholesky(block, self.name))
        return out

    def tensors(self) -> list[Tensor]:
        """Base, keys, and the base with the absorbed keys."""
        return [self.base, self.keys, *([self._total] if self._total is not None else [])]

    def _absorb(self, keys: Tensor) -> None:
        self._total = (self.base.clone() if self._total is None else self._total).addmm_(keys, keys.T)

    def _release(self, keep: int) -> int:
        self._total = None  # made again of the base and the blocks that stay
        return 0

    def _form(self, keys: Tensor) -> Tensor:
        return moved_to(keys, self.base)

    def _sum(self) -> Tensor:
        pending = self._pending()
        total = self.base.clone() if self._total is None else self._total
        self._total = None  # it becomes the base
        return total.addmm_(pending, pending.T)


def _eye_plus(matrix: Tensor) -> Tensor:
    matrix.diagonal().add_(1.0)
    return matrix

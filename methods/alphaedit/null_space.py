"""The null space of the covariance C, and systems that are solved within it.

P projects onto the eigenvectors of C whose eigenvalue is below a threshold. With F = P[K_earlier, K] the published
solution of (P (M + KKᵀ) + l2 I) X = P K is X = F S, S the last columns of (FᵀF + l2 I)⁻¹: a matrix with a row for each
edit instead of d_ff rows, and no d_ff × d_ff matrix is kept.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.costs import NULL_SPACE, CachedCosts
from editbench.files import DamagedFile, decode_tensors, read_bytes, write_tensors
from editbench.locate_then_edit.solver import WoodburySolver
from editbench.model.devices import moved_to
from editbench.model.language_model import tensor_bytes

if TYPE_CHECKING:
    from editbench.resources import Resources

VERSION = 1
"""Changes with the basis that :meth:`NullSpace.of` finds."""


@dataclass(frozen=True)
class NullSpace:
    """Directions with an eigenvalue below the threshold, or the others where these are fewer.

    Attributes:
        basis: (d_ff, r) orthonormal, float64.
        inside: Whether the basis is that of the kept directions; else of those left out.
        digest: Hex digest of the covariance that it belongs to.
    """

    basis: Tensor
    inside: bool
    digest: str

    @classmethod
    def of(cls, covariance: Tensor, threshold: float, digest: str = "") -> NullSpace:
        """Of a covariance (d_ff, d_ff), float64."""
        values, vectors = torch.linalg.eigh(covariance)  # rising
        kept = int((values < threshold).sum())
        inside = kept <= len(values) - kept
        return cls((vectors[:, :kept] if inside else vectors[:, kept:]).contiguous(), inside, digest)

    @property
    def share(self) -> float:
        """Share of the directions that are kept."""
        share = self.basis.shape[1] / len(self.basis)
        return share if self.inside else 1.0 - share

    def project(self, x: Tensor) -> Tensor:
        """P x (d_ff, n), in the dtype of ``x``."""
        basis = self.basis.to(x)
        part = basis @ (basis.T @ x)
        return part if self.inside else x - part


def null_space(covariance: Tensor, threshold: float, resources: Resources) -> NullSpace:
    """The null space of C (d_ff, d_ff), from the cache if it was found before for these very numbers."""
    digest = hashlib.blake2b(tensor_bytes(covariance.cpu()), digest_size=16).hexdigest()
    if resources.cache is None:
        return NullSpace.of(covariance, threshold, digest)
    name = f"null_space/{digest}-{threshold!r}-v{VERSION}.safetensors"
    found = _read(resources.cache / name, name, resources.costs)
    if found is None:
        resources.costs.missing(NULL_SPACE, name)
        began = time.perf_counter()
        found = NullSpace.of(covariance, threshold, digest)
        seconds = time.perf_counter() - began
        resources.costs.note(NULL_SPACE, seconds, read=False)
        facts = {"inside": found.inside, "digest": digest, "seconds": seconds}
        (resources.cache / name).parent.mkdir(parents=True, exist_ok=True)
        resources.costs.digests[name] = write_tensors(resources.cache / name, {"basis": found.basis}, facts)
    return NullSpace(found.basis.to(covariance.device), found.inside, digest)


def _read(file: Path, name: str, costs: CachedCosts) -> NullSpace | None:
    if not file.is_file():
        return None
    try:
        tensors, facts, digest = decode_tensors(read_bytes(file), str(file))
        found, seconds = NullSpace(tensors["basis"], facts["inside"], facts["digest"]), float(facts["seconds"])
    except (DamagedFile, KeyError) as error:
        raise ValueError(f"the cached null space {file} is damaged ({error}); delete it") from error
    costs.note(NULL_SPACE, seconds, read=True)
    costs.digests[name] = digest
    return found


class NullSpaceSolver(WoodburySolver):
    """(P (M + KKᵀ) + l2 I)⁻¹ P K, with keys kept as P K / √l2.

    ``base`` is √l2, a column (d_ff, 1) of the diagonal factor of l2 I; once keys are compacted, it is the Cholesky
    factor (d_ff, d_ff) of l2 I + P M P, which gives the same solutions.
    """

    def __init__(self, space: NullSpace, l2: float, name: str, dtype: torch.dtype) -> None:
        self.space = space
        super().__init__(space.basis.new_full((len(space.basis), 1), l2**0.5, dtype=dtype), name)

    def tensors(self) -> list[Tensor]:
        """Those of all solvers, and the basis of the null space."""
        return [*super().tensors(), self.space.basis]

    def _form(self, keys: Tensor) -> Tensor:
        projected = self.space.project(moved_to(keys, self.base))
        return super()._form(projected) if self.compacted else projected / self.base

    def _back(self, solved: Tensor) -> Tensor:
        return super()._back(solved) if self.compacted else solved / self.base

    def _sum(self) -> Tensor:
        base = self.base if self.compacted else torch.diag(self.base[:, 0])
        return base @ self._inner()

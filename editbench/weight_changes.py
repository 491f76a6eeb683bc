"""Changes to weights, as data: what the ledger applies and keeps, and their way to tensors and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from editbench.model.devices import float64_device, moved_to

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_NUMBERS = 1 << 22  # numbers of a low-rank change's product formed at once: bounds the memory of an edit


@dataclass(frozen=True)
class LowRank:
    """``weight += left @ right.T`` in the weight's own dtype."""

    weight: str  # parameter name, from the model's root
    left: Tensor  # (out, r)
    right: Tensor  # (in, r), same dtype as `left`; the product is formed in that dtype


@dataclass(frozen=True)
class Dense:
    """``weight += delta``, with delta (out, in): for methods whose change has full rank."""

    weight: str
    delta: Tensor


Change = LowRank | Dense


def parts_of(change: Change) -> dict[str, Tensor]:
    """Tensors of a change by name."""
    return {name: part for name, part in vars(change).items() if name != "weight"}


def to_cpu(change: Change) -> Change:
    """A copy on the CPU."""
    return type(change)(change.weight, *(part.detach().to("cpu", copy=True) for part in parts_of(change).values()))


def to_tensors(changes: Sequence[Change]) -> tuple[dict[str, Tensor], list[dict[str, str]]]:
    """Tensors of the changes by number and part, and kind and weight of each change."""
    tensors = {f"{i:04d}.{name}": part for i, change in enumerate(changes) for name, part in parts_of(change).items()}
    return tensors, [{"kind": type(change).__name__, "weight": change.weight} for change in changes]


def from_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> tuple[Change, ...]:
    """The changes of :func:`to_tensors`, whose kinds are ``metadata["changes"]``."""
    types = [({"LowRank": LowRank, "Dense": Dense}[kind["kind"]], kind["weight"]) for kind in metadata["changes"]]
    parts = [[tensors[f"{i:04d}.{field.name}"] for field in fields(of)[1:]] for i, (of, _) in enumerate(types)]
    return tuple(of(weight, *tensors) for (of, weight), tensors in zip(types, parts, strict=True))


def in_chunks(change: Change, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of ``target`` part by part, and the addition to each, in the target's dtype and on its device."""
    if isinstance(change, Dense):
        yield target, moved_to(change.delta, target)
        return
    # One memory layout, whether the factors come from a solve or from a file: products of other layouts differ in
    # their last bits.
    place = float64_device(target.device) if change.left.dtype == torch.float64 else target.device
    left, right = change.left.to(place).contiguous(), change.right.to(place).contiguous()
    rows = max(1, CHUNK_NUMBERS // max(1, right.shape[0]))
    for start in range(0, target.shape[0], rows):
        yield target[start : start + rows], moved_to(left[start : start + rows] @ right.T, target)

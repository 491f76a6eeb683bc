"""Clusters of keys, each with the answer that its edits share; every key points to a LoRA block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NO_BLOCK = -100  # of the point that the published code leaves in a cluster without edits


@dataclass(frozen=True)
class Point:
    """An edit's key (d,) and its block; of no edit with :data:`NO_BLOCK`."""

    edit: str
    prompt: str
    key: Tensor
    block: int


@dataclass(frozen=True)
class Cluster:
    """Points around a centre (d,); without points it answers with the base model.

    Attributes:
        label: Token ids of the answer.
        label_sum: What the published code compares instead.
    """

    centre: Tensor
    radius: float
    label: tuple[int, ...]
    label_sum: int
    points: tuple[Point, ...]

    def nearest(self, key: Tensor) -> Point | None:
        """The point nearest to a key (d,); None without points."""
        away = distances(self.points, key)
        return self.points[away.index(min(away))] if away else None


@dataclass(frozen=True)
class Change:
    """What one edit does to the index.

    Attributes:
        event: "add", "join" or "split".
        cluster: Place of the one that it joins, or that it splits off from; -1 for "add".
        radius: Of the cluster that it is in from now on, None: that of the points that are there.
        shrunk: New radius of the cluster that it splits off from.
        least: Smallest radius of a cluster that it joins.
        margin: Share by which such a radius exceeds the largest distance.
        dropped: Older edits of the same prompt, which leave the index first.
        refilled: Where a split leaves a cluster no point, its centre becomes one, of no block, as published.
    """

    event: str
    cluster: int
    label: tuple[int, ...]
    label_sum: int
    radius: float | None = None
    shrunk: float | None = None
    least: float = 0.0
    margin: float = 0.0
    dropped: tuple[str, ...] = ()
    refilled: bool = False

    def metadata(self) -> dict[str, Any]:
        """As JSON values."""
        return dict(vars(self))

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Change:
        """The inverse of :meth:`metadata`."""
        return cls(**{**metadata, "label": tuple(metadata["label"]), "dropped": tuple(metadata["dropped"])})


def distances(points: Sequence[Point], place: Tensor) -> list[float]:
    """Euclidean distances of points' keys to a place (d,)."""
    if not points:
        return []
    found: list[float] = torch.linalg.vector_norm(torch.stack([p.key for p in points]) - place, dim=1).tolist()
    return found

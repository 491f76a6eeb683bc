"""The index: clusters of keys, each with the answer that its edits share; every key points to a LoRA block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import is_
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Point:
    """An edit's key (d,) and its block."""

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

    def distances(self, points: Sequence[Point]) -> list[float]:
        """Of points to the centre."""
        return [distance(self.centre, point.key) for point in points]

    def nearest(self, key: Tensor) -> Point | None:
        """The point nearest to a key (d,); None without points."""
        away = [distance(point.key, key) for point in self.points]
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

    def metadata(self) -> dict[str, Any]:
        """As JSON values."""
        return dict(vars(self))

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Change:
        """The inverse of :meth:`metadata`."""
        return cls(**{**metadata, "label": tuple(metadata["label"]), "dropped": tuple(metadata["dropped"])})


@dataclass
class Index:
    """All clusters, the oldest first; a cluster is never changed, but replaced."""

    clusters: list[Cluster] = field(default_factory=list)
    _centres: tuple[list[Cluster], Tensor] | None = field(default=None, compare=False)  # of these clusters

    def copy(self) -> Index:
        """Another index with the same clusters."""
        return Index(list(self.clusters), self._centres)

    @property
    def centres(self) -> Tensor:
        """(n, d) of all clusters."""
        if self._centres is None or not _are(self._centres[0], self.clusters):
            self._centres = list(self.clusters), torch.stack([one.centre for one in self.clusters])
        return self._centres[1]

    def nearest(self, keys: Tensor) -> list[tuple[int, float]]:
        """Place and distance of the nearest centre to each key (B, d)."""
        distances = torch.cdist(keys.to(self.centres), self.centres, compute_mode="donot_use_mm_for_euclid_dist")
        least, place = distances.min(dim=1)
        return list(zip(place.tolist(), least.tolist(), strict=True))

    def find(self, keys: Tensor) -> list[tuple[Point | None, float]]:
        """The point that answers each key (B, d), or None, and by how much the nearest radius exceeds the distance."""
        found: list[tuple[Point | None, float]] = []
        for key, (place, away) in zip(keys, self.nearest(keys), strict=True):
            cluster = self.clusters[place]
            inside = cluster.radius - away
            found.append((cluster.nearest(key) if inside >= 0 else None, inside))
        return found

    def apply(self, change: Change, point: Point) -> None:
        """Add an edit's point."""
        for edit in change.dropped:
            self.drop(edit)
        if change.event == "join":
            old = self.clusters[change.cluster]
            points = (*old.points, point)
            centre = torch.stack([one.key for one in points]).mean(0)
            joined = replace(old, centre=centre, points=points)
            most = max(joined.distances(points))
            self.clusters[change.cluster] = replace(joined, radius=max(change.least, most * (1 + change.margin)))
            return
        assert change.radius is not None
        self.clusters.append(Cluster(point.key, change.radius, change.label, change.label_sum, (point,)))
        if change.shrunk is not None:
            old = self.clusters[change.cluster]
            inside = [d <= change.shrunk for d in old.distances(old.points)]
            stay = tuple(one for one, within in zip(old.points, inside, strict=True) if within)
            self.clusters[change.cluster] = replace(old, radius=change.shrunk, points=stay)

    def drop(self, edit: str) -> None:
        """Take an edit's points out; a cluster keeps its centre and radius, and goes with its last point."""
        for place in reversed(range(len(self.clusters))):
            cluster = self.clusters[place]
            stay = tuple(point for point in cluster.points if point.edit != edit)
            if not stay and cluster.points:
                del self.clusters[place]
            elif len(stay) < len(cluster.points):
                self.clusters[place] = replace(cluster, points=stay)

    def edits_of(self, block: int) -> list[str]:
        """Edits that a block answers."""
        return [p.edit for cluster in self.clusters for p in cluster.points if p.block == block]


def _are(some: Sequence[Cluster], others: Sequence[Cluster]) -> bool:
    """Whether the two hold the same objects."""
    return len(some) == len(others) and all(map(is_, some, others))


def distance(a: Tensor, b: Tensor) -> float:
    """Euclidean distance of two keys."""
    return float(torch.linalg.vector_norm(a - b.to(a)))

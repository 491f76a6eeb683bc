"""The index: all clusters, by the nearest centre and by what their points have."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from editbench.memory_based.growing_rows import GrowingRows
from editbench.memory_based.nearest_rows import nearest_rows

from .clusters import NO_BLOCK, Change, Cluster, Point, distances

if TYPE_CHECKING:
    from torch import Tensor

Name = tuple[str, str | int]  # a point's edit, prompt or block


class Index:
    """All clusters, the oldest first; a cluster is never changed, but replaced.

    Centres are rows of one matrix, and points are counted by what they have: no edit looks through all clusters.
    """

    def __init__(self, clusters: Iterable[Cluster] = ()) -> None:
        """Start with some clusters."""
        self.clusters: list[Cluster] = []
        self._numbers: list[int] = []  # of the clusters, rising; places move up when one is removed
        self._next = 0
        self._centres: GrowingRows | None = None
        self._points: dict[Name, Counter[int]] = {}  # how many have a name, by the number of their cluster
        self._undo: list[Callable[[], None]] | None = None  # what a trial takes back
        for cluster in clusters:
            self._append(cluster)

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Take back, at the end of the block, what was changed within it."""
        undo: list[Callable[[], None]] = []
        self._undo = undo
        try:
            yield
        finally:
            self._undo = None
            for one in reversed(undo):
                one()

    @property
    def centres(self) -> Tensor:
        """(n, d) of all clusters, at least one: a view, until the next change."""
        assert self._centres is not None
        return self._centres.filled

    def nearest(self, keys: Tensor) -> list[tuple[int, float]]:
        """Place and distance of the nearest centre to each key (B, d); there must be a cluster."""
        return nearest_rows(keys, self.centres)

    def find(self, keys: Tensor) -> list[tuple[Point | None, float]]:
        """The point that answers each key (B, d), or None, and by how much the nearest radius exceeds the distance."""
        found: list[tuple[Point | None, float]] = []
        for key, (place, away) in zip(keys, self.nearest(keys), strict=True):
            cluster = self.clusters[place]
            inside = cluster.radius - away
            point = cluster.nearest(key) if inside >= 0 else None
            found.append((None if point is None or point.block == NO_BLOCK else point, inside))
        return found

    def edits_with(self, *names: Name) -> list[str]:
        """Edits of the points that have one of these names, in the clusters' order."""
        numbers = {number for name in names for number in self._points.get(name, ())}
        clusters = [self.clusters[self._place(number)] for number in sorted(numbers)]
        return [p.edit for cluster in clusters for p in cluster.points if not names_of(p).isdisjoint(names)]

    def apply(self, change: Change, point: Point) -> list[Point]:
        """Add an edit's point; the points that leave for it."""
        left = [one for edit in change.dropped for one in self.drop(edit)]
        if change.event == "join":
            old = self.clusters[change.cluster]
            points = (*old.points, point)
            centre = torch.stack([one.key for one in points]).mean(0)
            radius = max(change.least, max(distances(points, centre)) * (1 + change.margin))
            self._set(change.cluster, replace(old, centre=centre, points=points, radius=radius))
            return left
        assert change.radius is not None
        self._append(Cluster(point.key, change.radius, change.label, change.label_sum, (point,)))
        if change.shrunk is not None:
            old = self.clusters[change.cluster]
            inside = [d <= change.shrunk for d in distances(old.points, old.centre)]
            stay = tuple(one for one, within in zip(old.points, inside, strict=True) if within)
            left += [one for one, within in zip(old.points, inside, strict=True) if not within]
            if change.refilled and not stay:
                stay = (Point("", "", old.centre, NO_BLOCK),)
            self._set(change.cluster, replace(old, radius=change.shrunk, points=stay))
        return left

    def drop(self, edit: str) -> list[Point]:
        """Take an edit's points out; a cluster keeps its centre and radius, and goes with its last point."""
        left: list[Point] = []
        for number in sorted(self._points.get(("edit", edit), ()), reverse=True):
            place = self._place(number)
            cluster = self.clusters[place]
            left += [point for point in cluster.points if point.edit == edit]
            if stay := tuple(point for point in cluster.points if point.edit != edit):
                self._set(place, replace(cluster, points=stay))
            else:
                self._remove(place)
        return left

    def _place(self, number: int) -> int:
        return bisect_left(self._numbers, number)

    def _append(self, cluster: Cluster) -> None:
        self._insert(len(self.clusters), self._next, cluster)
        self._next += 1

    def _insert(self, place: int, number: int, cluster: Cluster) -> None:
        if self._centres is None:
            self._centres = GrowingRows(cluster.centre.new_empty((0, len(cluster.centre))))
        self._centres.insert(place, cluster.centre)
        self.clusters.insert(place, cluster)
        self._numbers.insert(place, number)
        self._count(cluster, number, 1)
        self._undone_by(lambda: self._remove(place))

    def _set(self, place: int, cluster: Cluster) -> None:
        old, number = self.clusters[place], self._numbers[place]
        self.centres[place] = cluster.centre
        self.clusters[place] = cluster
        self._count(old, number, -1)
        self._count(cluster, number, 1)
        self._undone_by(lambda: self._set(place, old))

    def _remove(self, place: int) -> None:
        old, number = self.clusters.pop(place), self._numbers.pop(place)
        assert self._centres is not None
        self._centres.delete(place)
        self._count(old, number, -1)
        self._undone_by(lambda: self._insert(place, number, old))

    def _count(self, cluster: Cluster, number: int, by: int) -> None:
        for name in (name for point in cluster.points for name in names_of(point)):
            counts = self._points.setdefault(name, Counter())
            counts[number] += by
            if not counts[number]:
                del counts[number]
            if not counts:
                del self._points[name]

    def _undone_by(self, action: Callable[[], None]) -> None:
        if self._undo is not None:
            self._undo.append(action)


def names_of(point: Point) -> set[Name]:
    """By which a point is found; that of no edit by nothing."""
    if point.block == NO_BLOCK:
        return set()
    return {("edit", point.edit), ("prompt", point.prompt), ("block", point.block)}

"""Rules: what an edit does to the index, by the distance of its key to the nearest centre and by their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .clusters import Change, Index, distance
from .config import SOUND, MELOConfig

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.records import EditRequest

SAME_KEY = 1e-4  # a key nearer than this share of its norm is the same prompt's
MARGIN = 1e-3  # a joined radius exceeds the largest distance by this share, so that rounding does not decide
GAP = 1e-5  # from the half distance, of the radii after a split


def decide(
    index: Index, request: EditRequest, key: Tensor, label: tuple[int, ...], config: MELOConfig, before: Index
) -> tuple[Change, Index]:
    """The change for an edit with ``key`` (d,), and the index without the edits that it replaces.

    Published rules measure distances to the centres of ``before``, as they stood before its batch.
    """
    sound, dropped = config.rules == SOUND, tuple[str, ...]()
    if sound:
        dropped = _same_prompt(index, request, key)
        index = index.copy()
        for edit in dropped:
            index.drop(edit)
    total, compared = sum(label), index if sound else before
    new = Change("add", -1, label, total, config.radius, dropped=dropped)
    if not compared.clusters:
        return new, index
    ((place, away),) = compared.nearest(key[None])
    cluster = index.clusters[place]
    if away > cluster.radius + config.radius:
        return new, index
    if cluster.label == label if sound else cluster.label_sum == total:
        margin = MARGIN if sound else 0.0
        return Change("join", place, label, total, least=config.radius, margin=margin, dropped=dropped), index
    own, shrunk = away / 2 + GAP, away / 2 - GAP
    if sound:
        own, shrunk = min(config.radius, away / 2), min(cluster.radius, max(shrunk, 0.0))
    return Change("split", place, label, total, own, shrunk, dropped=dropped), index


def _same_prompt(index: Index, request: EditRequest, key: Tensor) -> tuple[str, ...]:
    """Edits of the same prompt, or with the same key in the nearest cluster, and an older edit of the same id."""
    if not index.clusters:
        return ()
    near, bound = index.clusters[index.nearest(key[None])[0][0]], SAME_KEY * float(key.norm())
    same_key = {point.edit for point in near.points if distance(point.key, key) <= bound}
    every = (point for cluster in index.clusters for point in cluster.points)
    return tuple(p.edit for p in every if p.edit in {*same_key, request.id} or p.prompt == request.prompt)

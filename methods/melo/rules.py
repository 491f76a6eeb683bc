"""Rules: what an edit does to the index, by the distance of its key to the nearest centre and by their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .clusters import Change, distances
from .config import SOUND, MELOConfig

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.records import EditRequest

    from .index import Index

SAME_KEY = 1e-4  # a key nearer than this share of its norm is the same prompt's
MARGIN = 1e-3  # a joined radius exceeds the largest distance by this share, so that rounding does not decide
GAP = 1e-5  # from the half distance, of the radii after a split


def decide(
    index: Index,
    request: EditRequest,
    key: Tensor,
    label: tuple[int, ...],
    config: MELOConfig,
    near: tuple[int, float] | None,
) -> Change:
    """The change for an edit with ``key`` (d,); edits that it replaces leave the index.

    ``near`` is place and distance of the nearest centre, None without clusters: by published rules as they stood before
    the edit's batch, by sound ones as they are.
    """
    sound, dropped = config.rules == SOUND, tuple[str, ...]()
    if sound and near is not None and (dropped := _same_prompt(index, request, key, near[0])):
        for edit in dropped:
            index.drop(edit)
        near = index.nearest(key[None])[0] if index.clusters else None
    total = sum(label)
    new = Change("add", -1, label, total, config.radius, dropped=dropped)
    if near is None:
        return new
    place, away = near
    cluster = index.clusters[place]
    if away > cluster.radius + config.radius:
        return new
    if cluster.label == label if sound else cluster.label_sum == total:
        margin = MARGIN if sound else 0.0
        return Change("join", place, label, total, least=config.radius, margin=margin, dropped=dropped)
    own, shrunk = away / 2 + GAP, away / 2 - GAP
    if sound:
        own, shrunk = min(config.radius, away / 2), min(cluster.radius, max(shrunk, 0.0))
    return Change("split", place, label, total, own, shrunk, dropped=dropped, refilled=not sound)


def _same_prompt(index: Index, request: EditRequest, key: Tensor, nearest: int) -> tuple[str, ...]:
    """Edits of the same prompt, or with the same key in the nearest cluster, and an older edit of the same id."""
    bound = SAME_KEY * float(key.norm())
    near = index.clusters[nearest].points
    same_key = {point.edit for point, away in zip(near, distances(near, key), strict=True) if away <= bound}
    edits = [("edit", edit) for edit in sorted({*same_key, request.id})]
    return tuple(index.edits_with(("prompt", request.prompt), *edits))

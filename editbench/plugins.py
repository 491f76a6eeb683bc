"""Entry points: methods, metrics, datasets, architectures and trackers by name, from any installed package."""

from __future__ import annotations

import sys
from functools import cache
from importlib import metadata
from typing import Any

from editbench.checks import unknown

METHODS = "editbench.methods"
METRICS = "editbench.metrics"
DATASETS = "editbench.datasets"
ARCHITECTURES = "editbench.architectures"
TRACKERS = "editbench.trackers"


def entry_points(group: str) -> dict[str, metadata.EntryPoint]:
    """Entry points of a group by name, sorted; nothing is imported. One name for two things is a ValueError."""
    return dict(_entry_points(group, tuple(sys.path)))


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, metadata.EntryPoint]:
    """``path`` is ``sys.path``, in the cache's key: other packages can be imported from another."""
    found: dict[str, metadata.EntryPoint] = {}
    for point in metadata.entry_points(group=group):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise ValueError(
                f"two packages register {point.name!r} in {group}: {other.value} and {point.value}; uninstall one"
            )
    return dict(sorted(found.items()))


def load(group: str, name: str, kind: str) -> Any:
    """The object registered as ``name``; ``kind`` ("method") is its word in the error."""
    points = entry_points(group)
    if name not in points:
        raise unknown(kind, name, points)
    return points[name].load()

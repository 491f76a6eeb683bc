"""The fixtures of finished runs."""

from tests.finished_runs import claimed, places

__all__ = ["claimed", "places"]

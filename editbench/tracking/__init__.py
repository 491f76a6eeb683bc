"""Trackers: a run's curves, summary and records, live in Weights & Biases, TensorBoard, Trackio or another service.

A tracker shows what follows from the run's own files. Only the chosen service's package is imported.
"""

from editbench.config import TrackerConfig
from editbench.tracking.base import TrackedRun, Tracker, open_tracker
from editbench.tracking.observer import RunObserver

__all__ = ["RunObserver", "TrackedRun", "Tracker", "TrackerConfig", "open_tracker"]

"""Trackers: a run's curves, summary and records, live in Weights & Biases, TensorBoard, Trackio or another service.

The run's own files stay the truth: a tracker shows what follows from them. Only the chosen service's package is
imported, when the run starts.
"""

from editbench.config import TrackerConfig
from editbench.tracking.background import open_tracker
from editbench.tracking.base import TrackedRun, Tracker
from editbench.tracking.observer import RunObserver

__all__ = ["RunObserver", "TrackedRun", "Tracker", "TrackerConfig", "open_tracker"]

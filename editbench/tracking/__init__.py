"""Trackers: a run's curves, summary and records, live in Weights & Biases, TensorBoard or Trackio.

    settings.py             what a user can set: `TrackerConfig`
    tracker.py              the interface: `Tracker`, and `TrackedRun`, what a tracker is told about a run
    opening.py              a tracker by name: `open_tracker`
    guard.py                `BackgroundTracker`: a tracker that can neither slow a run down nor end it
    observe.py              rows of the results to points of curves, tables and a summary; pure
    live.py                 `Observer`: what the session hands its rows to
    wandb_tracker.py, tensorboard_tracker.py, trackio_tracker.py    one file a service

What a tracker shows is derived from the run's own files, which stay the truth. Only the chosen service's package is
imported, when the run starts.
"""

from editbench.config import TrackerConfig
from editbench.tracking.background import open_tracker
from editbench.tracking.base import TrackedRun, Tracker
from editbench.tracking.observer import RunObserver

__all__ = ["RunObserver", "TrackedRun", "Tracker", "TrackerConfig", "open_tracker"]

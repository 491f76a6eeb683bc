"""A tracker by name. Nothing of a service is imported before its run starts."""

from __future__ import annotations

from importlib import import_module, util
from typing import TYPE_CHECKING, NamedTuple

from editbench.naming import unknown
from editbench.tracking.guard import Guarded
from editbench.tracking.tracker import NoTracker, Tracker

if TYPE_CHECKING:
    from editbench.tracking.settings import TrackerSettings

MODES = ("online", "offline", "disabled")


class Service(NamedTuple):
    """Where a tracker's class is, which package it needs, and what installs that."""

    module: str
    tracker: str
    package: str
    install: str


SERVICES = {
    "wandb": Service("editbench.tracking.wandb_tracker", "WandbTracker", "wandb", "wandb"),
    "tensorboard": Service(
        "editbench.tracking.tensorboard_tracker", "TensorBoardTracker", "tensorboard", "editbench[tensorboard]"
    ),
    "trackio": Service("editbench.tracking.trackio_tracker", "TrackioTracker", "trackio", "editbench[trackio]"),
}
NAMES = ("none", *SERVICES)


def open_tracker(settings: TrackerSettings) -> Tracker:
    """The tracker that the settings name, guarded: none of its calls blocks or raises.

    Raises:
        ValueError: Unknown name or mode, a bound that is not positive, or the service's package is not installed.
    """
    if settings.name not in NAMES:
        raise unknown("tracker", settings.name, NAMES)
    if settings.mode is not None and settings.mode not in MODES:
        raise unknown("tracker mode", settings.mode, MODES)
    for bound in ("start_seconds", "finish_seconds", "queue"):
        if getattr(settings, bound) <= 0:
            raise ValueError(f"tracker.{bound} is {getattr(settings, bound)}; it must be positive")
    if settings.name == "none":
        return NoTracker()
    service = SERVICES[settings.name]
    if util.find_spec(service.package) is None:
        raise ValueError(
            f"tracker={settings.name} needs the package {service.package}, which is not installed: "
            f"pip install '{service.install}'"
        )
    backend: Tracker = getattr(import_module(service.module), service.tracker)(settings)
    return Guarded(backend, settings)

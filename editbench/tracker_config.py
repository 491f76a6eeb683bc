"""Settings of trackers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TrackerConfig:
    """Settings of a tracker; none of them changes a run's numbers.

    Attributes:
        name: "none", "wandb", "tensorboard", "trackio", or a registered one.
        mode: wandb: "online", "offline" or "disabled"; null takes ``WANDB_MODE``, or else "online".
        project: Project of the service; null takes the service's environment variable, or else "editbench".
        entity: User or team, for wandb.
        group: Name that the runs of a sweep share; null is dataset, model, method, stream and identity.
        tags: Tags beside dataset, model and method.
        tables: Also send one row a record at the end of the run.
        start_seconds: Time for the service to start; wandb takes half of it and then continues offline.
        finish_seconds: Longest wait for the service at the end of the run.
        queue: Calls that may wait for the service; further ones are dropped.
        settings: The tracker's own settings.
    """

    name: str = "none"
    mode: str | None = None
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    tables: bool = True
    start_seconds: float = 60.0
    finish_seconds: float = 10.0
    queue: int = 1000
    settings: dict[str, Any] = field(default_factory=dict)

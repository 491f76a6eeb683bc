"""What a user can set about the tracker."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrackerSettings:
    """Settings of a tracker; none of them changes a run's numbers.

    Attributes:
        name: "none", "wandb", "tensorboard" or "trackio".
        mode: "online", "offline" or "disabled", for wandb; null is what ``WANDB_MODE`` says, or else online.
        project: Project of the service; null is what its environment variable says, or else "editbench".
        entity: User or team, for wandb.
        group: Runs of a sweep under one name; null is dataset, model, method, stream and identity: what seeds share.
        tags: Tags beside dataset, model and method.
        tables: Also send one row a record, when the run ends.
        start_seconds: The service has this long to start; wandb takes half of it and then goes on offline.
        finish_seconds: The run's end waits at most this long for the service.
        queue: Calls that may wait for the service; further ones are dropped.
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

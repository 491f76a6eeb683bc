"""Settings of external weights."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ExternalWeightsConfig:
    """Settings of external weights.

    Attributes:
        path: Folder with a model of the same architecture (or a hub id), or with a PEFT adapter for the base model
            (``adapter_config.json``; needs ``peft``).
    """

    path: str = field(default="", metadata={"path": "read"})

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError(
                "external_weights: no path; give the folder of the edited model or adapter with method.path=DIR"
            )

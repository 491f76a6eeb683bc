"""A checkpoint or adapter that was edited elsewhere, scored like any method."""

from __future__ import annotations

from .config import ExternalWeightsConfig
from .editor import ExternalWeights

__all__ = ["ExternalWeights", "ExternalWeightsConfig"]

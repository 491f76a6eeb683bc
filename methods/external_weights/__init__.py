"""Weights or an adapter that were edited elsewhere, scored like any method."""

from .config import ExternalWeightsConfig
from .editor import ExternalWeights

__all__ = ["ExternalWeights", "ExternalWeightsConfig"]

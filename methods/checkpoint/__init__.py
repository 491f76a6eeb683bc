"""A checkpoint or adapter that was edited elsewhere, scored like any method."""

from .config import CheckpointConfig
from .editor import Checkpoint

__all__ = ["Checkpoint", "CheckpointConfig"]

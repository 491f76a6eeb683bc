"""RLEdit: a network that is trained on sequences of edits turns gradients into values for a ridge solve (2025)."""

from .config import RLEditConfig
from .editor import RLEdit

__all__ = ["RLEdit", "RLEditConfig"]

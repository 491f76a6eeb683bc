"""PMET: Precise Model Editing in a Transformer (Li et al., AAAI 2024)."""

from .config import PMETConfig
from .editor import PMET

__all__ = ["PMET", "PMETConfig"]

"""EMMET: batched edits as equality constraints (Gupta et al., Findings of EMNLP 2024)."""

from .config import EMMETConfig
from .editor import EMMET

__all__ = ["EMMET", "EMMETConfig"]

"""RECT: edits of which only the relatively largest changes are written (Gu et al., EMNLP 2024)."""

from .config import RECTConfig
from .editor import RECT

__all__ = ["RECT", "RECTConfig"]

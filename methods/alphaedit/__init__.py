"""AlphaEdit: Null-Space Constrained Knowledge Editing for Language Models (Fang et al., ICLR 2025)."""

from .config import AlphaEditConfig
from .editor import AlphaEdit

__all__ = ["AlphaEdit", "AlphaEditConfig"]

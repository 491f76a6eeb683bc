"""PRUNE: the total change of a stream is restrained at its end (Ma et al., ICLR 2025)."""

from .config import PRUNEConfig
from .editor import PRUNE

__all__ = ["PRUNE", "PRUNEConfig"]

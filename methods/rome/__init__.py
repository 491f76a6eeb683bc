"""ROME: Rank-One Model Editing (Meng et al., NeurIPS 2022)."""

from .config import ROMEConfig
from .editor import ROME

__all__ = ["ROME", "ROMEConfig"]

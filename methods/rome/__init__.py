"""ROME: Rank-One Model Editing (Meng et al., NeurIPS 2022)."""

from editbench.methods.rome.config import ROMEConfig
from editbench.methods.rome.editor import ROME

__all__ = ["ROME", "ROMEConfig"]

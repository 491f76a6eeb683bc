"""MEMIT: Mass-Editing Memory in a Transformer (Meng et al., ICLR 2023)."""

from editbench.methods.memit.config import MEMITConfig
from editbench.methods.memit.editor import MEMIT

__all__ = ["MEMIT", "MEMITConfig"]

"""MEMIT: Mass-Editing Memory in a Transformer (Meng et al., ICLR 2023)."""

from .config import MEMITConfig
from .editor import MEMIT

__all__ = ["MEMIT", "MEMITConfig"]

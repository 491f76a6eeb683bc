"""WISE: rethinking the knowledge memory for lifelong model editing (Wang et al., NeurIPS 2024)."""

from .config import WISEConfig
from .editor import WISE

__all__ = ["WISE", "WISEConfig"]

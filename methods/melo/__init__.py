"""MELO: enhancing model editing with neuron-indexed dynamic LoRA (Yu et al., AAAI 2024)."""

from .config import MELOConfig
from .editor import MELO

__all__ = ["MELO", "MELOConfig"]

"""NSE: Neuron-level Sequential Editing (Jiang et al., 2024)."""

from .config import NSEConfig
from .editor import NSE

__all__ = ["NSE", "NSEConfig"]

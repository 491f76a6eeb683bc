"""NSE: Neuron-level Sequential Editing (Jiang et al., 2024)."""

from editbench.methods.nse.config import NSEConfig
from editbench.methods.nse.editor import NSE

__all__ = ["NSE", "NSEConfig"]

"""Constrained fine-tuning, FT-L (Zhu et al., 2020; as the baseline in Meng et al., 2022)."""

from .config import FineTuneConfig
from .editor import FineTune

__all__ = ["FineTune", "FineTuneConfig"]

"""MEND: a trained network turns the gradient of an edit into its change (Mitchell et al., ICLR 2022)."""

from .config import MENDConfig
from .editor import MEND

__all__ = ["MEND", "MENDConfig"]

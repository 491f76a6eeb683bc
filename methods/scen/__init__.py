"""SCEN: Scalable Model Editing via Customized Expert Networks (Yao et al., COLM 2024)."""

from .config import SCENConfig
from .editor import SCEN

__all__ = ["SCEN", "SCENConfig"]

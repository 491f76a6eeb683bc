"""SCEN: Scalable Model Editing via Customized Expert Networks (Yao et al., COLM 2024)."""

from editbench.methods.scen.config import SCENConfig
from editbench.methods.scen.editor import SCEN

__all__ = ["SCEN", "SCENConfig"]

"""Constrained fine-tuning, FT-L (Zhu et al., 2020; as the baseline in Meng et al., 2022)."""

from editbench.methods.finetune.config import FineTuneConfig
from editbench.methods.finetune.editor import FineTune

__all__ = ["FineTune", "FineTuneConfig"]

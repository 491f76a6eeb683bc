"""LoRA: one low-rank adapter, trained on edit after edit (Hu et al., ICLR 2022)."""

from .config import LoRAConfig
from .editor import LoRA

__all__ = ["LoRA", "LoRAConfig"]

"""In-context editing: the facts before the prompt, with demonstrations or none (IKE: Zheng et al., EMNLP 2023)."""

from .config import InContextConfig
from .editor import InContext

__all__ = ["InContext", "InContextConfig"]

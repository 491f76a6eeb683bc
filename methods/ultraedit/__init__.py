"""UltraEdit: one backward pass, running normalisation and a ridge solve (Gu et al., 2025)."""

from .config import UltraEditConfig
from .editor import UltraEdit

__all__ = ["UltraEdit", "UltraEditConfig"]

"""GRACE: lifelong model editing with key-value adaptors (Hartvigsen et al., NeurIPS 2023)."""

from .config import GRACEConfig
from .editor import GRACE

__all__ = ["GRACE", "GRACEConfig"]

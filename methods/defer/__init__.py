"""Defer: a gate that defers to the model or to a side network, after Mitchell et al. and Hartvigsen et al."""

from .config import DeferConfig
from .editor import Defer

__all__ = ["Defer", "DeferConfig"]

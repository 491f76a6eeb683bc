"""Retrieval editing: the edits as a store, the nearest before the prompt."""

from .config import RetrievalConfig
from .editor import Retrieval

__all__ = ["Retrieval", "RetrievalConfig"]

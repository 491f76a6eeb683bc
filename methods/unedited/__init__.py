"""The control: a model that nobody edits."""

from .config import UneditedConfig
from .editor import Unedited

__all__ = ["Unedited", "UneditedConfig"]

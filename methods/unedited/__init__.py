"""The control: a model that nobody edits."""

from .editor import Unedited, UneditedConfig

__all__ = ["Unedited", "UneditedConfig"]

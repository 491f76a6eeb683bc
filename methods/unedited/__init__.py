"""The control: a model that nobody edits."""

from editbench.methods.unedited.editor import Unedited, UneditedConfig

__all__ = ["Unedited", "UneditedConfig"]

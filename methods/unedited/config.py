"""Settings of the control: none."""

from dataclasses import dataclass


@dataclass
class UneditedConfig:
    """No settings."""

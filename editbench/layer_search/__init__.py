"""The search for the layers to edit in a model without settings: ``editbench locate``."""

from __future__ import annotations

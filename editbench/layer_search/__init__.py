"""The search for the layers to edit in a model without settings: ``editbench locate``."""

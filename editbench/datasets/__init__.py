"""Datasets by name: raw files, folders, the hub or the embedded world, read as validated records.

    load("counterfact", "counterfact.json")
    load("zsre", "hub:NAME@SPLIT", target="answers")
    load("hallucination", "pocket")

A dataset is one file with its layouts and settings, found by the entry-point group ``editbench.datasets``.
"""

from editbench.datasets.loading import find, from_config, iterate_texts, load, load_texts
from editbench.datasets.training import training_records

__all__ = ["find", "from_config", "iterate_texts", "load", "load_texts", "training_records"]

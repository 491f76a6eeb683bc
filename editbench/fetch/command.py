"""The command ``editbench fetch NAME``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from editbench.checks import unknown
from editbench.console import quiet_libraries
from editbench.fetched import DATASETS, MODELS, fetched_folder, read_source
from editbench.progress import Messages, watching

_SHOWN = ("source", "where", "revision", "precision", "licence", "sha256", "pinned", "records")


def main(name: str, given: str | None = None, again: bool = False) -> int:
    """Fetch a model or a data set unless it is there, and print where it came from. Returns the exit status."""
    if name not in (*MODELS, *DATASETS):
        raise unknown("name to fetch", name, (*MODELS, *DATASETS))
    folder = fetched_folder(name)
    facts = read_source(folder)
    if not facts or given or again:
        _log_to_terminal()
        quiet_libraries()
        with watching(f"fetch {name}"):
            folder = _fetch(name, Path(given).expanduser() if given else None)
        facts = read_source(folder)
        print(f"{name}: {folder}")
    else:
        print(f"{name}: {folder} (fetched before; --again does it again)")
    for line in lines(facts):
        print(f"  {line}")
    use = f"model={name}" if name in MODELS else f"dataset={name} dataset.path=fetched"
    print(f"use it with: editbench run {use}")
    return 0


def _fetch(name: str, given: Path | None) -> Path:
    if name in MODELS:
        from editbench.fetch.models import fetch_model

        return fetch_model(name, given)
    from editbench.fetch.datasets import fetch_dataset

    return fetch_dataset(name, given)


def lines(facts: dict[str, Any]) -> list[str]:
    """The facts of a fetched thing, a line each."""
    return [f"{key:<9}  {facts[key]}" for key in _SHOWN if facts.get(key) is not None]


def _log_to_terminal() -> None:
    logger = logging.getLogger("editbench")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, Messages) for handler in logger.handlers):
        logger.addHandler(Messages())

"""The files that a search writes: settings as YAML for people and runs, and as JSON how they were found."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from editbench import registry
from editbench.files import canonical, write_atomic
from editbench.json_lines import encode
from editbench.tuning.start import OBJECTIVE, Start

if TYPE_CHECKING:
    from editbench.config import RunConfig
    from editbench.tuning.study import Study


def destination(config: RunConfig, out: Path | None, for_dataset: bool, replace: bool) -> Path:
    """The YAML file to write; a ValueError if it cannot be, or is not the tuner's own."""
    folder = out or registry.hparams_folder(config.method.name) / registry.TUNED
    if out is None and not _in_writable_checkout(folder.parent.parent):
        raise ValueError(
            f"the package of {config.method.name} at {folder.parent.parent} is in no writable checkout; say where the "
            "settings go with --out DIR"
        )
    model = str(config.model.name).lower()
    file = folder / f"{model}{f'-{config.dataset.name}' if for_dataset else ''}.yaml"
    if file.exists() and not file.with_suffix(".json").exists() and not replace:
        raise ValueError(
            f"{file} is there, and no search wrote it; move it to {folder.parent / 'by_hand'}, write elsewhere with "
            "--out DIR, or give --replace"
        )
    return file


def _in_writable_checkout(package: Path) -> bool:
    return os.access(package, os.W_OK) and any((folder / ".git").exists() for folder in package.resolve().parents)


def write(file: Path, start: Start, study: Study, seed: int) -> None:
    """Write the best settings so far to ``file``, and how they were found to the JSON file beside it."""
    best, config, trials = study.best(), start.config, len(study.tried)
    assert best is not None and study.untuned is not None
    settings = {**start.fixed, **best.settings}
    facts = {
        "trials": trials,
        "found_in": best.number,  # 0: no trial was better than the untuned settings
        "score": best.outcome.score,
        "untuned_score": study.untuned.outcome.score,
        "objective": OBJECTIVE,
        "headline": dict(config.protocol.headline),
        "method": start.method,
        "model": config.model.name,
        "model_hash": start.model_hash,
        "dataset": config.dataset.name,
        "split": "tune",
        "edits": len(start.records),
        "batch_size": config.stream.batch_size,
        "records_hash": digest(start.records),
        "seed": seed,
        "optuna": metadata.version("optuna"),
        "date": date.today().isoformat(),
    }
    head = (
        f"# Found by `editbench tune`, {facts['date']}: {trials} trials of {facts['edits']} edits of "
        f"{config.dataset.name} (split tune), seed {seed}.\n"
        f"# Score {best.outcome.score:.3f}, untuned {study.untuned.outcome.score:.3f}. {file.stem}.json says how.\n"
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(_line(name, value) for name, value in settings.items())
    plain: Mapping[str, Any] = {**facts, "settings": yaml.safe_load(text), "records": list(start.records)}
    write_atomic(file.with_suffix(".json"), (encode(plain, indent=1) + "\n").encode())
    write_atomic(file, (head + text).encode())


def _line(name: str, value: Any) -> str:
    """A setting in YAML, a list on the same line."""
    if isinstance(value, list):
        return f"{name}: {yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)}"
    return str(yaml.safe_dump({name: value}, allow_unicode=True))


def digest(records: Any) -> str:
    """SHA-256 of the hashes of the records that were edited."""
    return hashlib.sha256(canonical(list(records))).hexdigest()

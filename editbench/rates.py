"""Rates of runs on this machine: what finished runs took, kept in the cache, and lines through them by size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from editbench.costs import EDIT, EVALUATION, PREPARE
from editbench.files import ResultsError, make_folder, write_atomic
from editbench.json_lines import encode
from editbench.results.run_folder import is_run, read_run

RATES = "rates.json"  # in the cache
STAGES = (PREPARE, EDIT, EVALUATION)
_OF_SIZE = ("edits", "seed", "sample", "order", "evaluate_at")  # of the stream: they change how much, not how fast


@dataclass(frozen=True)
class Measured:
    """What a finished run took."""

    edits: int
    rows: int  # of records' scores
    seconds: Mapping[str, float]  # by stage
    host: int | None  # peak bytes of the process
    device: int | None  # peak bytes of the GPUs
    disk: int  # bytes of its folder


def key_of(deciding: Mapping[str, Any], machine: str) -> str:
    """Digest of all that decides how fast a run is, beside the number of its edits."""
    plain = json.loads(json.dumps(deciding, sort_keys=True, default=str))
    plain["stream"] = {name: value for name, value in plain["stream"].items() if name not in _OF_SIZE}
    plain["dataset"].pop("limit", None)
    return hashlib.sha256(json.dumps([plain, machine], sort_keys=True).encode()).hexdigest()[:16]


def learn(folders: Iterable[Path], cache: Path) -> dict[str, list[Measured]]:
    """Rates by key: those in the cache, with those of the finished runs in these folders, which are added to it."""
    file = cache / RATES
    known: dict[str, dict[str, Any]] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    for folder in folders:
        for run in sorted(path for path in folder.iterdir() if is_run(path)) if folder.is_dir() else ():
            if (found := _measured(run)) is not None:
                known[str(run.resolve())] = found
    make_folder(cache)
    write_atomic(file, encode(known).encode("utf-8"))
    rates: dict[str, list[Measured]] = {}
    for one in known.values():
        rates.setdefault(one["key"], []).append(Measured(**{name: one[name] for name in Measured.__annotations__}))
    return rates


def _measured(run: Path) -> dict[str, Any] | None:
    """A finished run's key and costs; None of others, and of runs whose machine did not say what it is."""
    try:
        info = read_run(run)
        config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    except (ResultsError, OSError):
        return None
    costs, summary, facts = info["costs"], info["summary"], info["provenance"]
    if info["status"] != "done" or not costs or not summary or "cpu" not in facts:
        return None
    with (run / "scores.jsonl").open(encoding="utf-8") as file:
        rows = sum('"record"' in line for line in file)
    return {
        "key": key_of(config, str(facts.get("gpu") or facts["cpu"])),
        "edits": facts["stream"]["edits"],
        "rows": rows,
        "seconds": {stage: costs[f"{stage}_seconds"] for stage in STAGES},
        "host": costs.get("peak_rss_bytes"),
        "device": costs.get("peak_cuda_bytes"),
        "disk": sum(path.stat().st_size for path in run.rglob("*") if path.is_file()),
    }


def fitted(sizes: Sequence[float], values: Sequence[float], at: float) -> float | None:
    """The value at a size, by the line of least squares, never falling and never below 0; None without two sizes."""
    if len(set(sizes)) < 2:
        return None
    import numpy as np

    slope = max(0.0, float(np.polyfit(sizes, values, 1)[0]))
    constant = max(0.0, float(np.mean(values)) - slope * float(np.mean(sizes)))
    if constant == 0.0:
        slope = sum(s * v for s, v in zip(sizes, values, strict=True)) / sum(s * s for s in sizes)
    return constant + slope * at

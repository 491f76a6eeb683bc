"""Rates of runs: what finished runs took, kept in the cache, and lines through them by size.

Seconds are those of one machine. Memory is much the same on another: it is known by the kind of device, "cpu" or "gpu".
"""

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

RATES, QUICKEST = "rates.json", "quickest.json"  # in the cache
GPU, CPU = "gpu", "cpu"
STAGES = (PREPARE, EDIT, EVALUATION)
_OF_SIZE = ("edits", "seed", "sample", "order", "evaluate_at", "stop_when")
"""Fields of the stream that change how much is done, not how fast."""


@dataclass(frozen=True)
class Measured:
    """What a finished run took."""

    edits: int
    rows: int  # of records' scores
    seconds: Mapping[str, float]  # by stage
    host: int | None  # peak bytes of the process
    device: int | None  # peak bytes of the GPUs
    kept: Mapping[str, int]  # bytes that the method kept at the end, by "host" and "device"
    disk: int  # bytes of its folder

    def memory(self, kind: str, kept: float) -> float | None:
        """Peak bytes ("host", "device") of a run at whose end the method keeps so many."""
        peak = getattr(self, kind)
        return None if not peak else peak - self.kept[kind] + kept


def key_of(deciding: Mapping[str, Any], machine: str) -> str:
    """Digest of all that decides how fast a run is, beside the number of its edits."""
    plain = json.loads(json.dumps(deciding, sort_keys=True, default=str))
    plain["stream"] = {name: value for name, value in plain["stream"].items() if name not in _OF_SIZE}
    plain["dataset"].pop("limit", None)
    return hashlib.sha256(json.dumps([plain, machine], sort_keys=True).encode()).hexdigest()[:16]


def learn(folders: Iterable[Path], cache: Path) -> dict[str, list[Measured]]:
    """Rates by key, of a machine and of a kind of device: those in the cache, and those of the finished runs in these
    folders, which are added to it.
    """
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
        if "kept" in one:  # else an older version's
            measured = Measured(**{name: one[name] for name in Measured.__annotations__})
            for key in (one["key"], one["memory_key"]):
                rates.setdefault(key, []).append(measured)
    return rates


def quickest(cache: Path, name: str, seconds: float | None = None) -> float | None:
    """The fewest seconds measured for what this is the name of, these among them; None if there are none.

    The fewest, because a machine that is busy, or reads from a disk for the first time, only adds to them.
    """
    file = cache / QUICKEST
    known: dict[str, float] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    best = min((one for one in (seconds, known.get(name)) if one is not None), default=None)
    if best is not None and best != known.get(name):
        make_folder(cache)
        write_atomic(file, encode({**known, name: best}).encode("utf-8"))
    return best


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
    kept = costs.get("footprint") or {}
    return {
        "key": key_of(config, str(facts.get("gpu") or facts["cpu"])),
        "memory_key": key_of(config, GPU if costs.get("peak_cuda_bytes") else CPU),
        "edits": (summary.get("collapsed") or facts["stream"])["edits"],
        "rows": rows,
        "seconds": {stage: costs[f"{stage}_seconds"] for stage in STAGES},
        "host": costs.get("peak_rss_bytes"),
        "device": costs.get("peak_cuda_bytes"),
        "kept": {kind: int(kept.get(kind, 0)) for kind in ("host", "device")},
        "disk": sum(path.stat().st_size for path in run.rglob("*") if path.is_file()),
    }


def fitted(sizes: Sequence[float], values: Sequence[float], at: float) -> float | None:
    """The value at a size, by the line of least squares, never falling and never below 0.

    One size alone says nothing of others, for which None is returned; at that size it is the mean of its values.
    """
    if len(set(sizes)) < 2:
        return sum(values) / len(values) if at in sizes else None
    import numpy as np

    slope = max(0.0, float(np.polyfit(sizes, values, 1)[0]))
    constant = max(0.0, float(np.mean(values)) - slope * float(np.mean(sizes)))
    if constant == 0.0:
        slope = sum(s * v for s, v in zip(sizes, values, strict=True)) / sum(s * s for s in sizes)
    return constant + slope * at

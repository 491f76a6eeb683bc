"""A sweep one of whose workers is killed in mid-run, and the same command again; for each launcher that has workers.

The jobs are of a method of another package, so that the workers are slow enough to be met, and save a state after every
edit: fine-tuning that waits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from editbench.checkpoint import RunCheckpoint
from editbench.files import DamagedFile

EDITS, SEEDS = 8, 3
_METHOD = """
import math, time
from editbench import checkpoint
from editbench.methods.finetune import FineTune

checkpoint.MIN_INTERVAL, checkpoint.MAX_SHARE = 0.0, math.inf

class Waiting(FineTune):
    title = "waiting"

    def write(self, batch, transaction, result):
        time.sleep(0.5)
        super().write(batch, transaction, result)
"""
_OF_TIME = (
    "seconds",
    "latency",
    "bytes",
    "started",
    "ended",
    "folder",
    "done_before",
    "cached",
    "overrides",
    "content_hash",
    "commit",
)


class Sweep:
    """``editbench run -m`` on a launcher, three seeds in a results folder of its own."""

    def __init__(self, launcher: str, folder: Path, results: str) -> None:
        site, self.results = folder / "site", folder / results
        about = site / "waiting-0.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (site / "waiting.py").write_text(_METHOD)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: waiting\nVersion: 0\n")
        (about / "entry_points.txt").write_text("[editbench.methods]\nwaiting = waiting:Waiting\n")
        seeds = ",".join(map(str, range(SEEDS)))
        jobs = ["method=waiting", "method.steps=2", f"stream.seed={seeds}", f"stream.edits={EDITS}"]
        small = ["protocol.metrics=[exact_match,agreement]", "protocol.stages=[final]", "protocol.max_tokens=8"]
        places = [f"results.dir={self.results}", f"cache={folder / 'cache'}"]
        self.command = [sys.executable, "-m", "editbench.cli", "run", "-m", "--json", f"launcher={launcher}"]
        self.command += [*jobs, *small, *places]
        self.environment = {**os.environ, "PYTHONPATH": str(site), "HOME": str(folder), "OMP_NUM_THREADS": "1"}

    def start(self) -> subprocess.Popen[str]:
        """Start the command."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(self.command, cwd=self.results.parent, env=self.environment, **pipes)

    def finish(self, process: subprocess.Popen[str] | None = None) -> tuple[int, list[dict[str, Any]], str]:
        """Wait for the end of the command, started here if it is not: exit status, rows of the table, errors."""
        process = process or self.start()
        out, err = process.communicate(timeout=400)
        return process.returncode, [json.loads(line) for line in out.splitlines()], err

    def kill_one(self, process: subprocess.Popen[str]) -> Path:
        """Kill a worker that has saved some of its edits; the folder of its run."""
        for _ in range(4000):
            assert process.poll() is None, process.communicate()
            for file in self.results.glob("*/ledger/state.safetensors"):
                with suppress(DamagedFile, OSError):
                    if 2 <= RunCheckpoint(file.parent).batches < EDITS - 1 and self._kill(process, file.parents[1]):
                        return file.parents[1]
            time.sleep(0.05)
        raise AssertionError("no worker saved its edits")

    def _kill(self, process: subprocess.Popen[str], run: Path) -> bool:
        """Kill the process that holds the run's lock."""
        for worker in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                if str(run / "run.lock") in [file.path for file in worker.open_files()]:
                    worker.kill()
                    worker.wait(30)
                    return True
        return False

    def edits(self, run: Path) -> list[str]:
        """Lines of a run's edits, with the seconds that each took."""
        return (run / "edits.jsonl").read_text().splitlines()


def differences(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By row of two tables, in the order of seeds: columns that differ, but for what depends on time and place."""
    pairs = zip(*(sorted(some, key=lambda row: int(row["seed"])) for some in (rows, others)), strict=True)
    return [{k: (a[k], b[k]) for k in a if a[k] != b[k] and not any(word in k for word in _OF_TIME)} for a, b in pairs]

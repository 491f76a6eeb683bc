"""Sweeps on a real Ray of two workers, where its launcher is installed: ``make test-ray``."""

import json
import os
import subprocess
import sys

import pytest

from tests.commands.killed_worker import EDITS, SEEDS, Sweep, differences

pytestmark = pytest.mark.slow

pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="make test-ray installs it")


def test_a_sweep_runs_on_two_workers_and_leaves_the_home_directory_alone(tmp_path):
    home, results = tmp_path / "home", tmp_path / "results"
    home.mkdir()
    jobs = ["-m", "--json", "launcher=ray", "method=unedited,rome", "stream.edits=1,2"]
    jobs += ["model.covariance=nowhere.safetensors"]  # which rome alone needs
    small = ["protocol.metrics=[exact_match,agreement]", "protocol.stages=[immediate]", "protocol.max_tokens=8"]
    places = [f"results.dir={results}", f"cache={tmp_path / 'cache'}"]
    command = [sys.executable, "-m", "editbench.cli", "run", *jobs, *small, *places]
    environment = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, check=False, timeout=500
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = sorted((row["method"], row["status"]) for row in rows)
    assert found == [("rome", "failed")] * 2 + [("unedited", "done")] * 2
    assert sorted(row["edits"] for row in rows if row["status"] == "done") == [1, 2]
    assert done.returncode == 1
    assert list(home.iterdir()) == []


def test_a_killed_worker_is_replaced_and_its_run_goes_on(tmp_path):
    """Ray gives the task to another worker; the same command again finds all done."""
    whole, sweep = (Sweep("ray", tmp_path, name) for name in ("whole", "disturbed"))
    status, undisturbed, errors = whole.finish()
    assert status == 0 and len(undisturbed) == SEEDS, errors

    process = sweep.start()
    killed = sweep.kill_one(process)
    saved = sweep.edits(killed)
    status, rows, errors = sweep.finish(process)
    assert status == 0, errors
    assert sweep.edits(killed)[:2] == saved[:2]  # gone on, not done again: their seconds are those of before
    assert len(sweep.edits(killed)) == EDITS
    assert differences(rows, undisturbed) == [{}] * SEEDS

    before = {run: run.read_text() for run in sweep.results.glob("*/run.json")}
    status, again, errors = sweep.finish()
    assert status == 0 and all(row["done_before"] for row in again), errors
    assert {run: run.read_text() for run in sweep.results.glob("*/run.json")} == before

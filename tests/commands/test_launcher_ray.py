"""A sweep on a real Ray of two workers, where its launcher is installed: ``make test-ray``."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="make test-ray installs it")


def test_a_sweep_runs_on_two_workers_and_leaves_the_home_directory_alone(tmp_path):
    home, results = tmp_path / "home", tmp_path / "results"
    home.mkdir()
    jobs = ["-m", "--json", "launcher=ray", "method=unedited", "stream.edits=1,2,1000"]  # so many records there are not
    small = ["protocol.metrics=[exact_match,agreement]", "protocol.stages=[immediate]", "protocol.max_tokens=8"]
    places = [f"results.dir={results}", f"cache={tmp_path / 'cache'}"]
    command = [sys.executable, "-m", "editbench.cli", "run", *jobs, *small, *places]
    environment = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, check=False, timeout=500
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted((row["status"], row["edits"] or 0) for row in rows) == [("done", 1), ("done", 2), ("failed", 0)]
    assert done.returncode == 1
    assert list(home.iterdir()) == []

"""Trackio's real client, in a process of its own: what it wrote is read back."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from tests.tracking.test_observer import tracked
from tests.tracking.three_edits import RELIABILITY

pytestmark = pytest.mark.slow


def test_trackio_holds_curves_and_config(tmp_path):
    pytest.importorskip("trackio")
    script = """
        import json, sys
        from pathlib import Path
        from tests.tracking.three_edits import show_three_edits
        show_three_edits(Path(sys.argv[1]) / "run", name="trackio")
        import trackio
        from trackio.sqlite_storage import SQLiteStorage
        [run] = trackio.Api().runs("editbench")
        logs = SQLiteStorage.get_logs("editbench", run.name)
        curve = [(log["step"], log["immediate/reliability"]) for log in logs if "immediate/reliability" in log]
        last = [log["summary/status"] for log in logs if "summary/status" in log]
        print(json.dumps([curve, last, run.config["seed"], run.config["_Group"]]))
    """
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path / "home")})
    assert done.returncode == 0, done.stderr
    curve, last, seed, group = json.loads(done.stdout.splitlines()[-1])
    assert [tuple(point) for point in curve] == RELIABILITY
    assert (last, seed, group) == (["done"], 3, tracked(tmp_path).group)
    assert (tmp_path / "trackio").is_dir()
    assert not (tmp_path / "home").exists()

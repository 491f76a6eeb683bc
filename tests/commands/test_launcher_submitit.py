"""A sweep on submitit's workers, as on Slurm's nodes, with one of them killed in mid-run."""

import pytest

from tests.commands.killed_worker import EDITS, SEEDS, Sweep, differences
from tests.composing import need_launcher

pytestmark = pytest.mark.slow


def test_a_sweep_with_a_killed_worker_goes_on_and_gives_the_table_of_an_undisturbed_one(tmp_path):
    need_launcher("submitit_local")
    whole, sweep = (Sweep("submitit_local", tmp_path, name) for name in ("whole", "disturbed"))
    status, undisturbed, errors = whole.finish()
    assert status == 0 and len(undisturbed) == SEEDS, errors

    process = sweep.start()
    killed = sweep.kill_one(process)
    status, _, errors = sweep.finish(process)
    assert status == 1 and "error: Job" in errors, errors
    finished = [run.parent for run in sweep.results.glob("*/run.json") if run.parent != killed]
    before = {run: (sweep.edits(run), (run / "run.json").read_text()) for run in finished}
    assert len(finished) == SEEDS - 1 and all(len(edits) == EDITS for edits, _ in before.values())
    saved = sweep.edits(killed)
    assert 2 <= len(saved) < EDITS

    status, rows, errors = sweep.finish()
    assert status == 0, errors
    assert sorted(row["done_before"] for row in rows) == [False, *[True] * (SEEDS - 1)]
    assert {run: (sweep.edits(run), (run / "run.json").read_text()) for run in finished} == before
    assert sweep.edits(killed)[:2] == saved[:2]  # gone on, not done again: their seconds are those of before
    assert len(sweep.edits(killed)) == EDITS
    assert differences(rows, undisturbed) == [{}] * SEEDS
    assert all(isinstance(row["score"], float) for row in rows)

"""What a plan says of memory and disk by the config alone, beside runs of the real command."""

import re
import subprocess
import sys

import pytest

from benchmarks.bench_plan import MEMORY_LIMIT, compare_memory

METHODS = ("rome", "memit", "scen", "ultraedit")


@pytest.mark.slow
def test_memory_and_disk_of_runs_on_the_embedded_model_are_foreseen(tmp_path, capsys):
    results = tmp_path / "results"
    for method in METHODS:
        small = ["stream.edits=6", "stream.batch_size=3", "protocol.stages=[final]", "model=pocket"]
        places = [f"results.dir={results}", f"cache={tmp_path / 'cache'}"]
        command = [sys.executable, "-m", "editbench.cli", "run", f"method={method}", *small, *places]
        subprocess.run(command, check=True, capture_output=True)
    compare_memory([results])
    out = capsys.readouterr().out
    assert f"memory: {len(METHODS)} of {len(METHODS)} within {MEMORY_LIMIT:.0%}" in out, out
    found = re.findall(r"-(\w+)-e6.* MiB said, .* taken, [+-]\d+%; disk .* taken, ([+-]\d+)%", out)
    assert sorted(name for name, _ in found) == sorted(METHODS)

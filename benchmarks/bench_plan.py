"""What `editbench plan` says beside what the run then takes, by the real commands. Needs an idle machine and minutes.

python -m benchmarks.bench_plan [pocket | smollm2] [edits=N] [dataset.path=FILE …]
python -m benchmarks.bench_plan RESULTS …   memory from the config alone, beside the peaks of the finished runs there

Rates, covariance and the unedited model's answers go to a folder of their own: each plan measures its two short runs.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from editbench.estimate import Planner
from editbench.kept_config import of_kept
from editbench.results.run_folder import is_run, read_run

CONFIGS = {
    "pocket unedited": ["model=pocket", "method=unedited", "stream.edits=60"],
    "pocket rome": ["model=pocket", "method=rome", "stream.edits=40"],
    "pocket memit, batches of ten": ["model=pocket", "method=memit", "stream.edits=60", "stream.batch_size=10"],
    "smollm2 unedited": ["model=smollm2-135m", "method=unedited", "stream.edits=30"],
    "smollm2 finetune": ["model=smollm2-135m", "method=finetune", "method.steps=5", "stream.edits=25"],
}
LIMIT = 0.25  # of seconds
MEMORY_LIMIT = 0.15


def measure(name, overrides, folder):
    """Predicted and measured seconds and bytes of a config; before its runs, memory is predicted from the config."""
    places = [*overrides, f"results.dir={folder / 'results'}", f"cache={folder / 'cache'}", "model.device=cpu"]
    before = _plan(places, "--look", "never")
    planned = _plan(places, "--measure")
    begun = time.perf_counter()
    _editbench("run", *places, "--json")
    seconds = time.perf_counter() - begun
    (run,) = (folder / "results").glob("*/run.json")
    peak = json.loads(run.read_text("utf-8"))["costs"]["peak_rss_bytes"]
    run.parent.rename(folder / f"done {name}")  # the next plan is to know nothing of it
    predicted = planned["seconds"] + planned["start_seconds"]
    row = {"what": name, "predicted_seconds": predicted, "seconds": seconds, "cache": planned["cache"]}
    return {**row, "predicted_bytes": planned["host"], "from_config_bytes": before["host"], "bytes": peak}


def compare_memory(folders):
    """Memory and disk by the config alone beside those of finished runs on CPUs: a line a run, and two counts."""
    planner, off = Planner({}, look=False), []
    for run in sorted(found for folder in folders for found in Path(folder).iterdir() if is_run(found)):
        info = read_run(run)
        peak = (info["costs"] or {}).get("peak_rss_bytes")
        if info["status"] == "done" and peak and not info["costs"].get("peak_cuda_bytes"):
            config = of_kept(yaml.safe_load((run / "config.yaml").read_text("utf-8")), run)
            said, size = planner.foreseen(config), sum(f.stat().st_size for f in run.rglob("*") if f.is_file())
            off.append((said.host / peak - 1, said.disk / size - 1))
            memory = f"{said.host / 2**20:.0f} MiB said, {peak / 2**20:.0f} taken, {off[-1][0]:+.0%}"
            print(f"{run.name}: {memory}; disk {said.disk / 1e6:.2f} MB, {size / 1e6:.2f} taken, {off[-1][1]:+.0%}")
    for what, column in (("memory", 0), ("disk", 1)):
        near = sum(abs(one[column]) <= MEMORY_LIMIT for one in off)
        print(f"{what}: {near} of {len(off)} within {MEMORY_LIMIT:.0%}")


def _plan(overrides, *flags):
    return json.loads(_editbench("plan", "--json", *flags, *overrides).splitlines()[-1])


def _editbench(*arguments):
    done = subprocess.run([sys.executable, "-m", "editbench.cli", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"editbench {' '.join(arguments)}:\n{done.stderr}")
    return done.stdout


def main(arguments):
    """Print a row for each config as it comes, and the table."""
    if folders := [a for a in arguments if Path(a).is_dir()]:
        return compare_memory(folders)
    chosen = next((a for a in arguments if "=" not in a), "")
    further = [f"stream.{a}" if a.startswith("edits=") else a for a in arguments if "=" in a]
    table = Table("run", "seconds said", "taken", "off", "MiB said", "from the config", "taken", "off", "off", "cache")
    with tempfile.TemporaryDirectory() as folder:
        for name, overrides in CONFIGS.items():
            if chosen in name:
                row = measure(name, [*overrides, *further], Path(folder))
                print(json.dumps(row), flush=True)
                table.add_row(*_cells(row))
    Console(width=150).print(table)
    print(f"wanted: seconds within {LIMIT:.0%}, memory within {MEMORY_LIMIT:.0%}")


def _cells(row):
    off = row["predicted_seconds"] / row["seconds"] - 1
    said, config, taken = (row[name] / 2**20 for name in ("predicted_bytes", "from_config_bytes", "bytes"))
    seconds = [f"{row['predicted_seconds']:.1f}", f"{row['seconds']:.1f}", f"{off:+.0%}"]
    memory = [f"{said:.0f}", f"{config:.0f}", f"{taken:.0f}", f"{said / taken - 1:+.0%}", f"{config / taken - 1:+.0%}"]
    return [row["what"], *seconds, *memory, row["cache"]]


if __name__ == "__main__":
    main(sys.argv[1:])

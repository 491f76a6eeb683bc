"""What a method keeps after a long stream, and what a question costs then, by the real command on the embedded model.

    python -m benchmarks.bench_methods METHOD … [--edits 10000] [--hours 2] [KEY=VALUE …] >> benchmarks/methods.jsonl

So many different facts (``bench_long_stream.tiny_facts``) in batches of ten, with the settings for the embedded Llama.
Then the run's ledger is put into a fresh model, and questions are scored one at a time before and after. Times are the
processor's. A method that would take longer than the hours, by its first edits, is measured with 1,000 edits: its row
says how many. KEY=VALUE, such as method.steps=1, changes a setting, and the row names it. One line of JSON a method;
``python docs/tables.py`` makes the table of ``docs/memory.md`` from them.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml

from benchmarks.bench_long_stream import COMMON, Watched, tiny_facts
from editbench import Ledger
from editbench.files import read_tensors
from editbench.kept_config import of_kept
from editbench.model.language_model import load_model
from editbench.model.likelihood import Query, score_targets
from editbench.records import PromptFormat
from editbench.registry import load_method
from editbench.resources import Resources
from editbench.results.schema import CONFIG_FILE, LEDGER_FOLDER, STATE_FILE

BATCH, QUESTIONS, FEWER = 10, 50, 1000
METHODS = Path(__file__).resolve().parents[1] / "methods"
NETWORKS = {  # those of the package, which were trained on the embedded world's records
    method: f"method.network={METHODS}/{method}/networks/pocket-counterfact.safetensors"
    for method in ("mend", "rledit")
}


def stream(method, edits, folder, extra):
    """Run the command; (edits, CPU s, resident MB, disk MB, …) as it was seen."""
    folder.mkdir(parents=True)
    with open(folder / "records.jsonl", "w", encoding="utf-8") as file:
        facts = tiny_facts(2 * edits + 200)  # of them 80 % may be streamed
        file.writelines(json.dumps(record) + "\n" for record in facts)
    data = ["dataset=custom", f"dataset.path={folder / 'records.jsonl'}", f"results.dir={folder / 'results'}"]
    data += ["dataset.split=stream", *([NETWORKS[method]] if method in NETWORKS else [])]
    size = [f"stream.edits={edits}", f"stream.batch_size={BATCH}", "+protocol.final_first.custom=10"]
    rows = []
    Watched(folder, [*data, *size, *COMMON, f"method={method}", "model=pocket", *extra], False).go(None, rows)
    return rows


def cpu_seconds_of_an_edit(rows):
    """Between the first reading and that of the last edit; None where all edits were made between two readings."""
    last = next(row for row in rows if row[0] == rows[-1][0])  # behind it the run scores and ends
    edits = last[0] - rows[0][0]
    return (last[1] - rows[0][1]) / edits if edits else None


def ask(lm, editor, queries):
    """CPU-milliseconds a question, one at a time."""
    begun = time.process_time()
    for query in queries:
        score_targets(lm, [query], editor=editor)
    return 1000 * (time.process_time() - begun) / len(queries)


def questions(folder):
    """(before, after): CPU-milliseconds a question, of the unedited model and of the run's."""
    torch.set_num_threads(1)
    run = folder / "results/run"
    config = of_kept(yaml.safe_load((run / CONFIG_FILE).read_text(encoding="utf-8")), folder / "cache")
    lm = load_model(config.model)
    resources = Resources.build(lm, config.model, config.cache, config.stream.seed, PromptFormat())
    editor = load_method(config.method.name)(lm, Ledger(lm, run / LEDGER_FOLDER), config.method.settings, resources)
    queries = [Query(fact["prompt"], (fact["target"],)) for fact in tiny_facts(QUESTIONS)]
    ask(lm, editor, queries)
    before = ask(lm, editor, queries)
    editor.ledger.replay()
    editor.recall(read_tensors(run / STATE_FILE)[0])
    ask(lm, editor, queries)
    return before, ask(lm, editor, queries)


def measure(method, edits, hours, folder, extra):
    """One line for a method."""
    if edits > FEWER:
        seconds = cpu_seconds_of_an_edit(stream(method, 4 * BATCH, folder / "short", extra)) or 0.0
        edits = FEWER if seconds * edits > 3600 * hours else edits
    place = folder / "long"
    rows = stream(method, edits, place, extra)
    costs = json.loads((place / "results/run/run.json").read_text(encoding="utf-8"))["costs"]
    kept = sum(costs["footprint"].values())
    before, after = questions(place)
    seconds = cpu_seconds_of_an_edit(rows)
    line = {
        "method": method,
        "edits": edits,
        "kept_bytes": kept,
        "rss_first_mb": rows[0][2],
        "rss_last_mb": rows[-1][2],
        "disk_mb": rows[-1][3],
        "edit_cpu_ms": None if seconds is None else 1000 * seconds,
        "unedited_ms": before,
        "question_ms": after,
        **({"changed": extra} if extra else {}),
    }
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in line.items()}), flush=True)


def main():
    """Measure methods, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", metavar="METHOD")
    parser.add_argument("--edits", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=2.0, help="CPU-hours")
    options = parser.parse_intermixed_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    extra = [argument for argument in options.methods if "=" in argument]
    for method in [argument for argument in options.methods if "=" not in argument]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                measure(method, options.edits, options.hours, Path(folder), extra)
            except SystemExit as error:
                print(f"{method}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()

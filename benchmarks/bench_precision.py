"""What half precision costs an edit, and how much of it comes back where the edited matrices are in float32.

    python -m benchmarks.bench_precision --records counterfact.json --texts texts.json [--edits 20] [--batch 10]
        [--methods rome memit …] [--precisions bfloat16 bfloat16+float32 …] [--out precision.jsonl] [KEY=VALUE …]

Every method edits the same records by the real run: in float32 first, then in bfloat16 and float16, and in these with
``model.edited_dtype=float32``. Covariance is that of the float32 model for all of a method's runs, and the context
templates are given, so that only the dtype differs. A line of JSON for each run, as it ends, and a table at the end:

- scores after the last edit, and perplexity after / before on ten of the texts (the others are for the covariance);
- "off": ‖Δ − Δ₃₂‖ / ‖Δ₃₂‖ (Frobenius) over all edited matrices, of the summed change of their weights against that of
  the float32 run; blank for methods that change no weight;
- "rounded": ‖Δ − Σ‖ / ‖Σ‖, of the same against the sum Σ of the changes that the method made: what rounding has taken;
- wall seconds an edit, and of the whole run.

A run that is done is not done again; ``--folder`` keeps the runs. float16 is for a GPU: on a CPU its backward passes
take many times as long.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file, save_file

import editbench
from editbench.ledger_files import LedgerFiles
from editbench.locate_then_edit import covariance_files
from editbench.registry import load_method
from editbench.results.leaderboard import read_row
from editbench.results.schema import LEDGER_FOLDER
from editbench.weight_changes import Dense, from_tensors

METHODS = ("rome", "memit", "alphaedit", "nse", "finetune", "scen")
REFUSED = (("finetune", "float16"),)  # without a matrix in float32
PRECISIONS = {
    "float32": (),
    "bfloat16": ("model.dtype=bfloat16",),
    "bfloat16+float32": ("model.dtype=bfloat16", "model.edited_dtype=float32"),
    "float16": ("model.dtype=float16",),
    "float16+float32": ("model.dtype=float16", "model.edited_dtype=float32"),
}
TEMPLATES = ("{}", "It is well known. {}", "As they say, {}", "In the book it says: {}", "Let us begin. {}")
SCORED = 10  # texts for the perplexity
FIGURES = {  # of a row, by column of the table: format and the row's key
    "reliability": (".3f", "reliability"),
    "generality": (".3f", "generality"),
    "locality": (".3f", "locality"),
    "perplexity": (".3f", "perplexity_ratio"),
    "off": (".2g", "off"),
    "rounded": (".2g", "rounded"),
    "s/edit": (".2f", "seconds_per_edit"),
    "s": (".0f", "seconds"),
}


def measure(method, arguments, folder):
    """A row for each precision that is asked for, the float32 run first."""
    reference, shared = None, []
    wanted = [name for name in arguments.precisions if (method, name) not in REFUSED]
    for name in dict.fromkeys(["float32", *wanted]):
        own = PRECISIONS[name]
        overrides = [f"method={method}", *common(arguments, folder), *own, *shared, *arguments.overrides]
        begun = time.perf_counter()
        run = editbench.run(overrides).folder
        seconds = time.perf_counter() - begun
        changes = changes_of_weights(run)
        if reference is None:
            reference = changes
            if load_method(method).capabilities.needs_covariance:
                covariance = folder / f"covariance-{method}.safetensors"
                if not covariance.exists():
                    exported = covariance_files.export(str(run), folder / f"exported-{method}.safetensors")
                    save_file(load_file(exported), covariance)  # unsealed: the weights of the other dtypes are others
                shared = [f"model.covariance={covariance}"]
        yield row(method, name, read_row(run), compared(changes, reference, made_changes(run)), seconds)


def common(arguments, folder):
    """Overrides of all runs: the records, the texts, the templates."""
    own = [f"results.dir={folder / 'results'}", "dataset=counterfact"]
    own += [f"dataset.path={arguments.records}", f"model.texts={folder / 'covariance.json'}"]
    own += [f"dataset.plain_path={folder / 'scored.json'}", f"model={arguments.model}", "stream.seed=0"]
    own += [f"stream.edits={arguments.edits}", f"stream.batch_size={arguments.batch}", "protocol.stages=[final]"]
    return [*own, "model.templates=[" + ",".join(f"'{template}'" for template in TEMPLATES) + "]"]


def changes_of_weights(run):
    """The change of each edited matrix since the start, (out, in), float64, by name."""
    ledger = editbench.open_run(run).editor.ledger
    return {name: ledger.delta(name) for name in ledger.changed_weights}


def made_changes(run):
    """The sum of the changes that the method handed to the ledger, (out, in), float64, by name."""
    files, sums = LedgerFiles(run / LEDGER_FOLDER), {}
    for number, batch in enumerate(files.index()):
        for change in from_tensors(*files.load(number, batch)):
            whole = isinstance(change, Dense)
            made = change.delta.double() if whole else change.left.double() @ change.right.double().T
            sums[change.weight] = sums.get(change.weight, 0.0) + made
    return sums


def compared(changes, reference, made):
    """Figures "off" and "rounded"; empty without any change."""
    if not reference:
        return {}
    return {"off": distance(changes, reference), "rounded": distance(changes, made)}


def distance(changes, wanted):
    """‖A − B‖ / ‖B‖ over the matrices of B, all numbers together."""
    off = total(changes.get(name, 0.0) - matrix for name, matrix in wanted.items())
    return off / total(wanted.values())


def total(matrices):
    """The Frobenius norm."""
    return math.sqrt(sum(float(matrix.square().sum()) for matrix in matrices))


def row(method, precision, found, changes, seconds):
    """One line: the figures of a run."""
    figures = {**found, **changes, "seconds": seconds}
    line = {"method": method, "precision": precision, "edits": found["edits_made"], "processor": found["cpu"]}
    return line | {key: figures.get(key) for _, key in FIGURES.values()}


def table(rows):
    """Markdown."""
    lines = ["| method | precision | " + " | ".join(FIGURES) + " |", "|---|---" + "|---" * len(FIGURES) + "|"]
    for one in rows:
        cells = ["" if (x := one[key]) is None else f"{x:{form}}" for form, key in FIGURES.values()]
        lines.append(f"| {one['method']} | {one['precision']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv=None):
    """Print rows as they come, and the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", required=True, help="CounterFact records, in any layout")
    parser.add_argument("--texts", required=True, help="JSON list of plain texts, or of objects with a text")
    parser.add_argument("--edits", type=int, default=20)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS, metavar="PRECISION")
    parser.add_argument("--model", default="smollm2-135m", help="as model= of editbench run")
    parser.add_argument("--out", type=Path, help="file that gets the lines")
    parser.add_argument("--folder", type=Path, help="of the runs; a temporary one by default")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="further settings of all runs")
    arguments = parser.parse_intermixed_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        texts = json.loads(Path(arguments.texts).read_text(encoding="utf-8"))
        for name, part in (("covariance", texts[SCORED:]), ("scored", texts[:SCORED])):
            (folder / f"{name}.json").write_text(json.dumps(part), encoding="utf-8")
        for method in arguments.methods:
            for found in measure(method, arguments, folder):
                rows.append(found)
                print(json.dumps(found), flush=True)
                if arguments.out is not None:
                    with arguments.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(found) + "\n")
    print(table(rows))
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])

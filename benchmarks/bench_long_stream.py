"""A long stream by the real command: killed in its middle, resumed, scored, tabulated; what an edit costs as it grows.

    python -m benchmarks.bench_long_stream METHOD [--model tiny|pocket] [--edits 100000] [--dir DIR] [--out FILE]
                                           [KEY=VALUE …]

``tiny``: 100,000 different facts, and a Llama of random weights with two layers, where an edit takes few steps: what is
measured is all but the optimisation. SCEN's experts and neurons are drawn at random there (a neuron is trained against
all earlier edits, as published). ``pocket``: the embedded model, whose facts are edited again and again, with
all steps. A row for each tenth: CPU-milliseconds an edit, resident and disk megabytes, and the milliseconds of one
fixed product at that time, which tell a slow edit from a busy machine; then the resume, the final scores of a sample,
and the seconds of leaderboard and report. ``docs/tables.py`` and ``docs/growth_picture.py`` read what ``--out`` keeps
in ``benchmarks/growth.jsonl``.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers

from editbench.model_places import shipped_model_path

TENTHS, SCORED, PAGE, TICK = 10, 200, os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
TARGETS = ("red", "blue", "green", "old", "new", "north", "south", "small", "large", "round", "dark", "bright")
COMMON = ("stream.order=file", "protocol.stages=[final]", f"protocol.retention_sample={SCORED}", "results.name=run")
VALUES = ("method.steps=2", "model.templates=['{}']", "method.covariance_tokens=2000", "method.stop_loss=0")
TINY = {  # settings with which an edit is quick; edits in a batch
    "finetune": (("method.layer=0", "method.steps=2", "method.stop_loss=0"), 1),
    "rome": (("method.layer=0", *VALUES), 1),
    "memit": (("method.layers=[0,1]", *VALUES), 10),
    "nse": (("method.layers=[0,1]", *VALUES, "method.alpha=0", "method.upper_bound=1e9"), 10),
    "scen": (("method.layer=1", "method.device_bytes=0", "method.host_bytes=0"), 10),
    "memit_seq": (("method.layers=[0,1]", *VALUES), 10),
    "alphaedit": (("method.layers=[0,1]", *VALUES, "method.nullspace_threshold=0.0001"), 10),
    "rect": (("method.layers=[0,1]", *VALUES), 10),
    "emmet": (("method.layers=[0]", *VALUES), 10),
    "pmet": (("method.layers=[0,1]", *VALUES), 10),
    "prune": (("method.layers=[0,1]", *VALUES), 10),
    "lora": (("method.rank=2", "method.steps=2"), 10),
    "mend": (("method.layers=[0,1]", "method.network=untrained", "method.rank=2"), 10),
    "rledit": (("method.layers=[0,1]", "method.network=untrained", "method.rank=2"), 10),
    "defer": (("method.layer=1", "method.projection=second", "method.steps=2"), 10),
    "wise": (("method.layer=1", "method.steps=2"), 10),
    "in_context": (("method.layer=1",), 10),
    "grace": (("method.layer=1", "method.projection=second", "method.steps=2"), 10),
    "melo": (("method.layers=[1]", "method.projection=second", "method.steps=2"), 10),
    "ultraedit": (("method.layers=[0,1]",), 10),
    "retrieval": (("method.layer=1",), 10),
}
PRODUCT = torch.ones(64, 576), torch.ones(1536, 576)
POCKET = {  # as TINY; all else as the method's settings for the model are
    "finetune": ((), 1),
    "rome": ((), 1),
    "memit": ((), 10),
    "nse": ((), 10),
    "scen": (("method.device_bytes=500000000", "method.host_bytes=0"), 10),  # 570 kB an expert
}


def prepare(folder, model, edits):
    """Write the records, and the tiny model; the settings that name them."""
    with open(folder / "records.jsonl", "w", encoding="utf-8") as file:
        for record in tiny_facts(edits) if model == "tiny" else pocket_facts(edits):
            file.write(json.dumps(record) + "\n")
    where = [f"dataset.path={folder / 'records.jsonl'}", f"stream.edits={edits}", f"results.dir={folder / 'results'}"]
    if model == "tiny":
        tiny_model(folder / "model")
    return [*where, "dataset=custom", f"model.path={folder / 'model'}" if model == "tiny" else f"model={model}"]


def tiny_facts(edits):
    """So many facts, each of a subject of its own."""
    for i in range(edits):
        subject = f"Mor{i:x}"
        asked = f"The colour of {subject} is"
        yield {"id": str(i), "prompt": asked, "subject": subject, "target": TARGETS[i % len(TARGETS)]}


def pocket_facts(edits):
    """The embedded world's facts of two data sets, again and again, each time with another one's target."""
    from editbench.datasets import load

    records = [record for name in ("counterfact", "zsre") for record in load(name, "pocket").records]
    for i in range(edits):
        turn, at = divmod(i, len(records))
        record, other = records[at], records[(at + 3 + 3 * turn) % len(records)]  # never its own, from the first on
        paraphrases = [probe.prompt for probe in record.probes if probe.kind == "paraphrase"][:1]
        yield {
            "id": str(i),
            "prompt": record.request.prompt,
            "subject": record.request.subject,
            "target": other.request.target,
            "paraphrases": paraphrases,
        }


def tiny_model(folder):
    """A Llama with random weights and the embedded model's tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(shipped_model_path("pocket"))
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class Watched:
    """A run in a process of its own, seen from outside."""

    def __init__(self, folder, settings, untrained):
        self.edits_file, self.folder, self.settings = folder / "results/run/edits.jsonl", folder, settings
        self.untrained, self._read, self._seen = untrained, 0, 0

    def go(self, until, rows):
        """Start it; note (edits, CPU s, resident MB, disk MB, product's ms) in ``rows``; kill it at ``until``."""
        begun = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "EDITBENCH_CACHE": str(self.folder / "cache")}
        command = [sys.executable, "-m", "benchmarks.bench_long_stream", "--child", *self.settings]
        if self.untrained:
            command.insert(4, "--untrained")
        with open(self.folder / "log.txt", "ab") as log:
            child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        start, first = self._edits(), None
        while child.poll() is None:
            edits = self._edits()
            start = min(start, edits)  # a resume cuts off what is not saved
            usage = self._usage(child.pid)
            if edits > start and usage[1]:  # a process that has ended has no memory
                first = first or (time.perf_counter() - begun, usage[0])
                rows.append((edits, *usage, self._disk(), product_ms()))
            if until is not None and edits >= until:
                child.send_signal(signal.SIGKILL)
            time.sleep(0.5 if first else 0.05)
        if until is None and child.returncode:
            raise SystemExit((self.folder / "log.txt").read_text(encoding="utf-8")[-3000:])
        return first

    def _edits(self):
        """Edits so far, by the rows that are new since the last call."""
        if not self.edits_file.exists():
            return 0
        if self.edits_file.stat().st_size < self._read:
            self._read = self._seen = 0
        with open(self.edits_file, "rb") as file:
            file.seek(self._read)
            for line in file:
                if line.endswith(b"\n"):
                    self._read += len(line)
                    self._seen += len(json.loads(line)["ids"])
        return self._seen

    def _usage(self, pid):
        """(CPU seconds, resident MB) of the process."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 2**20
        except (FileNotFoundError, ProcessLookupError):
            return 0.0, 0.0
        return (int(fields[11]) + int(fields[12])) / TICK, resident

    def _disk(self):
        return sum(file.stat().st_size for file in (self.folder / "results").rglob("*") if file.is_file()) / 2**20


def product_ms():
    """Milliseconds of one fixed product."""
    begun = time.process_time()
    torch.nn.functional.linear(*PRODUCT)
    return 1000 * (time.process_time() - begun)


def tenths(rows, edits):
    """A row for each tenth of the stream, of what was seen nearest to its ends."""
    last = None
    for tenth in range(TENTHS + 1):
        seen = min(rows, key=lambda row: abs(row[0] - tenth * edits / TENTHS), default=None)
        if last is not None and seen[0] > last[0] and seen[1] > last[1]:
            cpu = 1000 * (seen[1] - last[1]) / (seen[0] - last[0])
            product = statistics.median(row[4] for row in rows if last[0] <= row[0] <= seen[0])
            yield {"edits": seen[0], "cpu_ms": cpu, "rss_mb": seen[2], "disk_mb": seen[3], "product_ms": product}
        last = seen


def measure(method, model, edits, folder, extra):
    """Yield the rows as they come."""
    own, batch = (TINY if model == "tiny" else POCKET)[method]
    points = f"stream.evaluate_at=[{edits}]"
    settings = [*prepare(folder, model, edits), f"method={method}", f"stream.batch_size={batch}", *COMMON, points]
    settings += [f"+protocol.final_first.custom={SCORED}", *own, *extra]
    run, rows, more = Watched(folder, settings, model == "tiny" and method == "scen"), [], []
    started = run.go(edits // 2, rows)
    yield from tenths(rows, edits)
    resumed = run.go(None, more)
    yield from tenths(more, edits)
    whole = rows[-1][1] + more[-1][1]
    yield {"whole": edits, "cpu_s": whole, "start_cpu_s": started[1], "resume_cpu_s": resumed[1]}
    for command in ("leaderboard", "report"):
        begun = time.perf_counter()
        arguments = [sys.executable, "-m", "editbench.cli", command, f"results.dir={folder / 'results'}"]
        subprocess.run(arguments, check=True, capture_output=True)
        yield {"command": command, "seconds": time.perf_counter() - begun}
    summary = json.loads((folder / "results/run/run.json").read_text(encoding="utf-8"))["summary"]
    measures = summary["interim"][-1]["measures"]
    yield {"scored": SCORED, **{name: found["mean"] for name, found in measures.items()}}


def child(arguments):
    """The run itself."""
    if arguments[:1] == ["--untrained"]:
        from benchmarks.bench_growth import Untrained
        from editbench.methods.scen import SCEN

        SCEN._trained, SCEN._neurons = Untrained._trained, Untrained._neurons
        arguments = arguments[1:]
    from editbench.cli import main as command

    return command(["run", *arguments])


def main():
    """Measure one method."""
    if sys.argv[1:2] == ["--child"]:
        raise SystemExit(child(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--edits", type=int, default=100_000)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--out", type=Path, help="add the rows to this file")
    options, extra = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.dir or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for found in measure(options.method, options.model, options.edits, folder, extra):
            row = {"method": options.method, "model": options.model, **found}
            line = json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
            print(line, flush=True)
            if options.out is not None:
                with open(options.out, "a", encoding="utf-8") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()

"""Growth of a run: time an edit, bytes on disk, memory, and the time of a resume, over a long stream.

Everything of a run but method and evaluation: the editing loop, ledger, rows, chain, checkpoint. The edits are rank-one
changes of two weights of a small random model (d=256, d_ff=1,024: 1 MB each), each edit one batch, and every record
gets one score. The run is stopped after its last edit as a crash would, and resumed.

    python -m benchmarks.bench_growth_ledger [EDITS …]
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers

from editbench import EditRequest, LanguageModel
from editbench.config import ProtocolConfig, StreamConfig
from editbench.costs import Meter
from editbench.editing_loop import EditingLoop
from editbench.editor import Editor
from editbench.ledger import Ledger, LowRank
from editbench.records import EditRecord, RecordSet
from editbench.results import RunFolder
from editbench.stream import Stream
from editbench.tracking import RunObserver
from tests.tiny_models import tiny_tokenizer

D, D_FF, LAYERS = 256, 1024, 2
FACTS = 200  # different prompts: each is edited again and again
PARTS = 10  # rows of the table


class Stop(BaseException):
    """A crash."""


class RankOne(Editor):
    """Writes random rank-one changes; no method."""

    title, config_class = "rank one", dict
    stop_at = None

    def write(self, batch, transaction, result):
        """A change of every layer, by the request's id."""
        for request in batch:
            if request.id == self.stop_at:
                raise Stop
            generator = torch.Generator().manual_seed(int(request.id))
            for layer in range(LAYERS):
                left, right = (torch.randn(size, 1, generator=generator) for size in (D, D_FF))
                transaction.apply(LowRank(self.lm.mlp_out_name(layer), left * 1e-4, right * 1e-2))
            result.losses[request.id] = [1.0, 0.5]


class OneScore:
    """Stands for the evaluator: one number a record, and none of the model."""

    unedited = None

    def score(self, records, *, stage, edits, batch, editor, unsupported):
        """A row a record."""
        stamp = {"stage": stage, "edits": edits, "batch": batch, "status": "scored", "scores": {"rewrite.nll": 0.5}}
        return [{**stamp, "record": record.id, "position": at} for record, at in records]

    def remember_hidden(self):
        """Nothing."""

    def hidden_change(self, editor):
        """Nothing."""

    def score_texts(self, *_, **__):
        """Nothing."""
        return []

    score_unrelated = score_ability = score_texts


def model():
    """A Llama with random weights."""
    config = transformers.LlamaConfig(
        hidden_size=D,
        intermediate_size=D_FF,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        vocab_size=400,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LanguageModel(transformers.LlamaForCausalLM(config), tiny_tokenizer(), name="rank-one")


def stream_of(edits):
    """A stream of single edits."""
    requests = (EditRequest(str(i), f"Fact {i % FACTS} is", f"Fact {i % FACTS}", f"value {i}") for i in range(edits))
    records = RecordSet("rank one", tuple(EditRecord(r, ()) for r in requests))
    return Stream.build(records, StreamConfig(edits=None, batch_size=1, order="file"))


class Run:
    """A run, new or resumed; ``seen`` has (edits, wall seconds, CPU seconds, resident MB, MB on disk, files)."""

    def __init__(self, root, stream, stop_at=None):
        self.stream, self.begun, self.seen = stream, time.perf_counter(), []
        path = root / "run"
        self.folder = RunFolder.open(path) if path.exists() else RunFolder.create(root, "run", "method: rank one\n")
        lm = model()
        self.editor = RankOne(lm, Ledger(lm, self.folder.ledger), {})
        self.editor.stop_at = stop_at

    def go(self):
        """Edit; the seconds until the first edit."""
        first, note, edit = [], self._note, self.editor.write

        def write(batch, *rest):
            first.append(time.perf_counter() - self.begun) if not first else None
            if int(batch[0].id) % max(1, len(self.stream) // PARTS) == 0:
                note(int(batch[0].id))
            edit(batch, *rest)

        self.editor.write = write
        protocol = ProtocolConfig(final_first=FACTS)
        meter = Meter()
        loop = EditingLoop(self.stream, self.editor, OneScore(), self.folder, protocol, 0, RunObserver(), meter)
        with self.folder:
            try:
                loop.run()
                self.folder.set_status("done")
            except Stop:
                note(len(self.stream))
        return first[0]

    def _note(self, edits):
        files = [file.stat().st_size for file in self.folder.path.rglob("*") if file.is_file()]
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        now = time.perf_counter(), time.process_time()
        self.seen.append((edits, *now, pages * resource.getpagesize() / 2**20, sum(files) / 2**20, len(files)))


def measure(edits, root):
    """Print a line a tenth of the stream, and of the resume."""
    stream = stream_of(edits)
    run = Run(root, stream, stop_at=str(edits - 1))
    run.go()
    before = None
    for now in run.seen:
        if before is not None:
            wall, cpu = (1e3 * (now[i] - before[i]) / (now[0] - before[0]) for i in (1, 2))
            row = {"edits": now[0], "ms": wall, "cpu_ms": cpu, "rss_mb": now[3], "disk_mb": now[4], "files": now[5]}
            print(json.dumps({name: round(value, 3) for name, value in row.items()}), flush=True)
        before = now
    whole = run.seen[-1][1] - run.seen[0][1]
    digest = run.editor.ledger.digest()
    run = Run(root, stream)
    seconds = run.go()
    run.editor.ledger.rollback(edits - 1)
    assert run.editor.ledger.digest() == digest, "the resumed run has other weights"
    row = {"edits": edits, "run_s": whole, "resume_s": seconds, "share": seconds / whole}
    print(json.dumps({name: round(value, 4) for name, value in row.items()}), flush=True)


def main():
    """Measure streams of these lengths."""
    torch.set_num_threads(1)
    for edits in map(int, sys.argv[1:] or ["10000", "100000"]):
        with tempfile.TemporaryDirectory() as root:
            measure(edits, Path(root))


if __name__ == "__main__":
    main()

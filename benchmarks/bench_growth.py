"""What grows with the number of edits: time of an edit, of a save and of a resume, memory and disk. No training.

python -m benchmarks.bench_growth scen [EDITS] [batch=N] [key=value ...]
python -m benchmarks.bench_growth grace [EDITS]
python -m benchmarks.bench_growth melo [EDITS]

``scen``: experts of a tiny layer, drawn at random, go the way of real ones: ledger, bank, checkpoint. A row each tenth
of the edits; ``whole_ms`` is what a save of the whole bank takes. ``host_bytes=0 device_bytes=0`` leave only the index
in memory. ``grace`` and ``melo``: entries and blocks of the embedded Llama's size, by keys drawn at random;
``answer_ms`` is a question's share of a forward pass of 32, ``plain_ms`` that of the unedited model.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.peak import resident_megabytes
from editbench import EditRequest
from editbench.checkpoint import RunCheckpoint
from editbench.files import write_tensors
from editbench.ledger import Ledger
from editbench.memory_based.compression import CompressedDelta
from editbench.memory_based.journal import JournalledEditor
from editbench.methods.grace import GRACE, GRACEConfig
from editbench.methods.grace.codebook import Change as CodebookChange
from editbench.methods.melo import MELO, MELOConfig
from editbench.methods.melo.clusters import Point
from editbench.methods.melo.editor import _entry
from editbench.methods.melo.rules import decide
from editbench.methods.scen.config import SCENConfig
from editbench.methods.scen.editor import SCEN, TrainedExpert
from tests.small_runs import same
from tests.tiny_models import tiny_lm

PARTS, SAVES, LAYER, WHOLE_UP_TO = 10, 5, 1, 10_000


class Untrained(SCEN):
    """SCEN whose experts and neurons are drawn at random."""

    def _trained(self, batch):
        shape = self.lm.weight(self.bank.weight).shape
        left, right = (torch.randn(size, 1, dtype=torch.float16) for size in shape)
        own = torch.randn(shape[1])
        expert = CompressedDelta("lowrank", {"left": left, "right": right})
        return [TrainedExpert(expert, own, [], 0.0, 0.0) for _ in batch]

    def _neurons(self, batch, own, result):
        return torch.randn_like(own)


def scen(edits, batch=1, **settings):
    """Rows as the bank grows, in batches of ``batch``, then one of the resume."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        editor, saved = _editor(path, settings), RunCheckpoint(path)
        start = resident_megabytes()
        for part in range(PARTS):
            numbers = range(part * edits // PARTS, (part + 1) * edits // PARTS)
            edit_ms = _milliseconds(lambda numbers=numbers: _edit(editor, numbers, batch)) / len(numbers)
            save_ms = _milliseconds(lambda: _save(saved, editor)) / SAVES
            row = {"edits": numbers.stop, "edit_ms": edit_ms, "save_ms": save_ms}
            row |= {"checkpoint_bytes": saved.file.stat().st_size, "memory_mb": resident_megabytes() - start}
            row["disk_mb"] = sum(file.stat().st_size for file in path.iterdir()) / 2**20
            row["search_ms"] = _milliseconds(lambda: editor._winners(editor.bank.inputs[:32]))
            if numbers.stop <= WHOLE_UP_TO:
                whole = path / "whole.safetensors"
                row["whole_ms"] = _milliseconds(lambda whole=whole: write_tensors(whole, editor.state(), {}))
                whole.unlink()
            yield row
        again = _editor(path, settings)
        seconds = _milliseconds(lambda: RunCheckpoint(path).restore(again)) / 1000
        same = again.bank.ids == editor.bank.ids and torch.equal(again.bank.neurons, editor.bank.neurons)
        yield {"edits": edits, "resume_s": seconds, "same_bits": same}


def _editor(path, settings):
    lm = tiny_lm()
    return Untrained(lm, Ledger(lm, path), SCENConfig(layer=LAYER, **settings))


def _edit(editor, numbers, batch):
    for start in range(numbers.start, numbers.stop, batch):
        part = range(start, min(start + batch, numbers.stop))
        editor.edit([EditRequest(f"edit {i}", f"The mother tongue of {i} is", None, "French") for i in part])


def _save(saved, editor):
    for _ in range(SAVES):
        saved.save(len(editor.ledger), "", editor, {})


def _milliseconds(call):
    begun = time.process_time()
    call()
    return 1000 * (time.process_time() - begun)


class UntrainedGRACE(GRACE):
    """GRACE whose keys and values are drawn at random: each adds an entry."""

    def write(self, batch, transaction, result):
        at = self.projection
        changes = [
            CodebookChange(
                r.id, r.prompt, "add", self.codebook.next + i, 1.0, (i,), 0.0, None, *drawn(at.d_in, at.d_out)
            )
            for i, r in enumerate(batch)
        ]
        self.keep(transaction, [change.journal_entry() for change in changes])


class UntrainedMELO(MELO):
    """MELO whose keys and blocks are drawn at random: each edit is a cluster, and a block."""

    def write(self, batch, transaction, result):
        entries = []
        with self.index.trial():
            for block, request in enumerate(batch, self.next_block):
                factors = [(torch.randn(at.d_in, 2), torch.randn(2, at.d_out)) for at in self.lora_at]
                keys, label = torch.stack(drawn(self.projection.d_out)), (block,)
                near = self.index.nearest(keys)[0] if self.index.clusters else None
                change = decide(self.index, request, keys[0], label, self.config, near)
                self.index.apply(change, Point(request.id, request.prompt, keys[0], block))
                entries.append(_entry([request], keys, [change], block, factors))
        self.keep(transaction, entries)


def drawn(*sizes):
    return [10 * torch.randn(size) for size in sizes]


def journalled(kind, config, edits, batch=10):
    """Rows as the memory of an editor on the embedded Llama grows, then one of the resume."""
    from editbench import load_model

    with tempfile.TemporaryDirectory() as folder:
        lm, path = load_model("pocket"), Path(folder)
        editor: JournalledEditor = kind(lm, Ledger(lm, path), config)
        ids = torch.tensor([lm.encode("The mother tongue of Danielle Darrieux is").ids] * 32)
        with torch.no_grad():
            plain_ms = _milliseconds(lambda: lm.model(input_ids=ids)) / 32
        for part in range(PARTS):
            numbers = range(part * edits // PARTS, (part + 1) * edits // PARTS)
            edit_ms = _milliseconds(lambda numbers=numbers: _edit(editor, numbers, batch)) / len(numbers)
            kept = editor.footprint()
            with torch.no_grad(), editor.answering([ids.shape[1] - 1] * 32):
                answer_ms = _milliseconds(lambda: lm.model(input_ids=ids)) / 32
            yield {
                **{"edits": numbers.stop, "edit_ms": edit_ms, "answer_ms": answer_ms, "plain_ms": plain_ms},
                "bytes_per_edit": (kept.host + kept.device) / numbers.stop,
            }
        again_lm = load_model("pocket")
        again = kind(again_lm, Ledger(again_lm, path), config)
        seconds = _milliseconds(lambda: (again.ledger.replay(), again.recall({}))) / 1000
        yield {"edits": edits, "resume_s": seconds, "same_bits": same(again.state(), editor.state())}


def grace(edits, batch=10):
    return journalled(UntrainedGRACE, GRACEConfig(layer=4, projection="second"), edits, batch)


def melo(edits, batch=10):
    return journalled(UntrainedMELO, MELOConfig(layers=[4, 5], projection="second"), edits, batch)


METHODS = {"scen": scen, "grace": grace, "melo": melo}


def main(arguments):
    """Print the rows of one method as they come."""
    method, edits, *settings = [*arguments, "10000"][: max(2, len(arguments))]
    torch.set_num_threads(1)
    for row in METHODS[method](int(edits), **{k: int(v) for k, v in (s.split("=") for s in settings)}):
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

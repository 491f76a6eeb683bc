"""What a forger can do: change a finished run, and compute all its digests anew."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import contextmanager

from editbench.files import canonical, read_tensors, write_tensors
from editbench.json_lines import encode, read_lines
from editbench.ledger_files import LedgerFiles
from editbench.results import seal
from editbench.results.recomputed import summary_of
from editbench.results.run_folder import encode_info
from editbench.results.schema import CHAIN_FILE, INDEX_FILE, RUN_FILE, STATE_FILE


def copy(run, target):
    return shutil.copytree(run, target)


@contextmanager
def forging(run):
    """Let the block change files of the run, but not how many lines they have; then seal it again."""
    chain = read_lines(run / CHAIN_FILE)[0]
    counts, starts = [], dict.fromkeys(seal.CHAINED, 0)
    for link in chain:
        counts.append({})
        for name, entry in link["files"].items():
            data = (run / name).read_bytes() if (run / name).exists() else b""
            counts[-1][name] = data[starts[name] : starts[name] + entry["bytes"]].count(b"\n")
            starts[name] += entry["bytes"]
    yield run
    _chain(run, chain, counts)
    _finish(run)


def _chain(run, chain, counts):
    files = {name: run / name for name in seal.CHAINED}
    lines = {name: of.read_bytes().splitlines(keepends=True) if of.exists() else [] for name, of in files.items()}
    info, head, written = json.loads((run / RUN_FILE).read_text()), "", []
    for link, count in zip(chain, counts, strict=True):
        parts = {name: b"".join(lines[name].pop(0) for _ in range(count[name])) for name in seal.CHAINED}
        index = [json.loads(line) for line in parts[INDEX_FILE].splitlines()]
        row = {name: value for name, value in link.items() if name != "head"} | {"previous": head}
        row["files"] = {name: seal._sealed(data) for name, data in parts.items()}
        row["tensors"] = [line["digest"] for line in index if "batch" in line]
        if "facts" in row:
            row["facts"] = seal.facts_of(run, info)
        head = hashlib.sha256(canonical(row)).hexdigest()
        written.append(f"{encode({**row, 'head': head})}\n")
    (run / CHAIN_FILE).write_text("".join(written))
    tensors, metadata = read_tensors(run / STATE_FILE)
    write_tensors(run / STATE_FILE, tensors, {**metadata, "head": json.loads(written[-1])["head"]})


def _finish(run):
    """The summary of the rows as they are now, and the manifest."""
    info = json.loads((run / RUN_FILE).read_text())
    (run / RUN_FILE).write_bytes(encode_info(info))
    head = json.loads((run / CHAIN_FILE).read_text().splitlines()[-1])["head"]
    seal.write_manifest(run, head, (run / RUN_FILE).read_bytes())
    found = {name: value for name, value in summary_of(run, info).items() if name != "final_rows"}
    data = encode_info({**info, "summary": found})
    seal.write_manifest(run, head, data)
    (run / RUN_FILE).write_bytes(data)


def edit_rows(run, name, change):
    """Change rows of a file of JSON Lines."""
    rows = read_lines(run / name)[0]
    for row in rows:
        change(row)
    (run / name).write_text("".join(f"{encode(row)}\n" for row in rows))


def edit_info(run, change):
    info = json.loads((run / RUN_FILE).read_text())
    change(info)
    (run / RUN_FILE).write_bytes(encode_info(info))


def edit_ledger(run, change):
    """Change the tensors of every batch in the ledger; digests of segments and index follow."""
    ledger = run / "ledger"
    old = ledger.rename(run / "old")
    before, after = LedgerFiles(old), LedgerFiles(ledger)
    for number, batch in enumerate(before.index()):
        tensors, metadata = before.load(number, batch)
        memory = {name: before.load_memory(blob) for name, blob in batch.memory.items()}
        own = {name: value for name, value in metadata.items() if name == "changes"}
        memory = {name: ({k: change(v) for k, v in of.items()}, about) for name, (of, about) in memory.items()}
        after.append(batch.written, batch.weights, {k: change(v) for k, v in tensors.items()}, own, memory)
    shutil.copy(old / "state.safetensors", ledger)
    shutil.rmtree(old)

"""The folder of a run that goes on from a finished one: that of a run which was stopped after the shared batches."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from editbench.files import canonical, explained, make_folder, read_tensors, sync_folder, write_atomic, write_tensors
from editbench.json_lines import decode, encode, read_lines
from editbench.results import schema
from editbench.results.run_folder import encode_info, new_info
from editbench.results.seal import CHAINED, facts_of

CONTINUED = "continued"  # key of the provenance: the run that was continued, its manifest's root, and the edits


def continue_run(
    old: Path, new: Path, batches: int, config_text: str, provenance: Mapping[str, Any], edits: int
) -> None:
    """Make the folder ``new`` from the first ``batches`` batches, ``edits`` edits, of the finished run ``old``.

    The files are copied: a run may cut its own. Nothing may be at ``new``, nor is until all of it is. The old run must
    be sound (:func:`~editbench.results.run_folder.read_run`).
    """
    root = decode((old / schema.MANIFEST_FILE).read_bytes())["root"]
    known = {**provenance, CONTINUED: {"run": old.name, "root": root, "edits": edits}}
    make_folder(new.parent)
    hidden = new.with_name(f".{new.name}.{secrets.token_hex(4)}.new")
    try:
        with explained("copy", old, "free some space, or start afresh with results.continue_from=never"):
            shutil.copytree(old / schema.LEDGER_FOLDER, hidden / schema.LEDGER_FOLDER)
            write_atomic(hidden / schema.CONFIG_FILE, config_text.encode())
            info = new_info(new.name, known)
            links = read_lines(old / schema.CHAIN_FILE)[0][: batches + 1]
            for name in CHAINED:
                size = sum(link["files"][name]["bytes"] for link in links)
                if (old / name).exists():
                    write_atomic(hidden / name, (old / name).read_bytes()[:size])
            chain = list(_rechained(links, facts_of(hidden, info)))
            write_atomic(hidden / schema.CHAIN_FILE, "".join(f"{encode(link)}\n" for link in chain).encode())
            state = {"batches": batches, "ledger_batches": sum(len(link["tensors"]) for link in links)}
            _write_state(old, hidden, {**state, "head": chain[-1]["head"]})
            write_atomic(hidden / schema.RUN_FILE, encode_info(info))
        with explained("make the folder", new, "move away what lies there, or choose another results.name"):
            hidden.rename(new)
            sync_folder(new.parent)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise


def _rechained(links: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines of a chain with other facts in the first, and so with other heads."""
    head = ""
    for link in links:
        row = {name: value for name, value in link.items() if name != "head"} | {"previous": head}
        if "facts" in row:
            row["facts"] = dict(facts)
        head = hashlib.sha256(canonical(row)).hexdigest()
        yield {**row, "head": head}


def _write_state(old: Path, new: Path, facts: Mapping[str, Any]) -> None:
    tensors, metadata = read_tensors(old / schema.STATE_FILE)
    write_tensors(new / schema.STATE_FILE, tensors, {**metadata, **facts})


def can_be_cut(folder: Path) -> bool:
    """Whether a finished run can go on from any of its batches: nothing but the ledger says what is in the model.

    True of methods that leave the weights as they are and keep their memory in the ledger.
    """
    index = folder / schema.INDEX_FILE
    weights = any(line.get("weights") for line in (read_lines(index)[0] if index.exists() else ()))
    return not weights and not read_tensors(folder / schema.STATE_FILE)[0]

"""``editbench forget RUN ID``: the edited model without some edits, as a folder that :func:`open_run` takes.

A method that keeps edits beside the weights takes them out of its memory. One that changes weights goes back to the
model before the first of them, and makes all later edits again: each was computed on the model that held the earlier.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from editbench.checkpoint import RunCheckpoint
from editbench.checks import unknown
from editbench.console import quiet_libraries
from editbench.edited_run.exports import write_ledger
from editbench.edited_run.opened import EditedModel, config_of, data_of, edited
from editbench.editor import edit_possible
from editbench.files import new_folder
from editbench.json_lines import read_lines
from editbench.progress import progress
from editbench.registry import load_method
from editbench.results import schema
from editbench.results.seal import ledger_batches

if TYPE_CHECKING:
    from editbench.config import RunConfig
    from editbench.records import EditRequest, RecordSet
    from editbench.stream import Stream


@dataclass(frozen=True)
class Plan:
    """What it takes to forget edits of a run."""

    folder: Path
    config: RunConfig
    forgotten: tuple[str, ...]
    keep: int  # batches of the ledger that stay as they are; those after it are made again
    again: tuple[tuple[EditRequest, ...], ...]  # by batch, without the forgotten ones; empty where a memory is cut
    seconds: float  # that these took in the run
    data: tuple[RecordSet, Stream]

    @property
    def edits(self) -> int:
        """Number of edits to make again."""
        return sum(map(len, self.again))


def plan(folder: str | Path, ids: Sequence[str]) -> Plan:
    """Find out what is to be done, without a model. A ValueError names an id that was not edited."""
    folder = Path(folder)
    config = config_of(folder)
    data = data_of(folder, config)
    rows = [row for row in read_lines(folder / schema.EDITS_FILE)[0] if row["ids"]]
    batches = {id: row["batch"] for row in rows for id in row["ids"] if id not in row["skipped"] | row["failed"]}
    for id in ids:
        if id not in batches:
            raise unknown(f"edit of {folder.name}", id, [*batches])
    if load_method(config.method.name).deletes:
        return Plan(folder, config, tuple(ids), len(rows), (), 0.0, data)
    first = min(batches[id] for id in ids)
    later = [row for row in rows if row["batch"] >= first]
    keep = ledger_batches(read_lines(folder / schema.CHAIN_FILE)[0], first - 1)
    requests = {record.id: record.request for record in data[1].records}
    wanted = (tuple(requests[id] for id in row["ids"] if id not in ids) for row in later)
    seconds = sum(row["seconds"] for row in later)
    return Plan(folder, config, tuple(ids), keep, tuple(filter(None, wanted)), seconds, data)


def forget(plan: Plan, out: str | Path) -> None:
    """Make the folder ``out`` with the edited model without the plan's edits.

    A ValueError if ``out`` is there, or the method cannot go back so far; nothing is left of it then.
    """
    with new_folder(Path(out)) as hidden:
        write_ledger(plan.folder, hidden)
        run = edited(hidden, plan.config, plan.data)
        if run.editor.deletes:
            for id in plan.forgotten:
                run.editor.delete(id)
        else:
            _edit_again(run, plan)
        RunCheckpoint(hidden / schema.LEDGER_FOLDER).save(len(run.editor.ledger), "", run.editor, {})


def _edit_again(run: EditedModel, plan: Plan) -> None:
    editor = run.editor
    try:
        editor.ledger.rollback(plan.keep)
    except ValueError as error:
        raise ValueError(f"{plan.folder}: {error}; do the run again without the record") from error
    editor.prepare([record.request for record in plan.data[1].records if record.id not in plan.forgotten])
    with progress("editing again", plan.edits) as advance:
        for batch in plan.again:
            edit_possible(editor.edit, batch)
            advance(len(batch))
    editor.finish()


def main(folder: str, ids: Sequence[str], out: str) -> int:
    """Say what it takes, do it, and say what was made."""
    quiet_libraries()
    planned = plan(folder, ids)
    if planned.edits:
        took = f"about {planned.seconds:.0f} s, as they took in the run, besides what the method prepares"
        print(f"{planned.edits} edits are made again ({took})", file=sys.stderr)
    forget(planned, out)
    print(f'{out}: the edited model of {folder} without {", ".join(ids)}; editbench ask {out} "PROMPT" asks it')
    return 0

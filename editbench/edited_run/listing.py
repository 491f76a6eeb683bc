"""``editbench edits RUN``: what was edited, in which batch, and whether it held then and holds now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from editbench.edited_run.opened import config_of, data_of
from editbench.json_lines import encode, read_lines
from editbench.results import schema
from editbench.visible_text import visible

EDITED, SKIPPED, FAILED = "edited", "skipped", "failed"


@dataclass(frozen=True)
class Edit:
    """One edit of a run."""

    number: int  # from 1, in the order of the stream
    id: str
    batch: int
    status: str  # "edited", "skipped" or "failed"
    reason: str  # why it was not edited; empty if it was
    prompt: str
    target: str
    then: float | None  # score right after its batch; None: not scored then
    now: float | None  # after the last edit
    measure: str  # of the two scores


def edits_of(folder: str | Path) -> list[Edit]:
    """The edits of a finished run, in their order. The scores are those of its headline's reliability.

    A ResultsError if the folder holds no finished run, a ValueError if its records are not there any more.
    """
    folder = Path(folder)
    config = config_of(folder)
    records, stream = data_of(folder, config)
    requests = {record.id: record.request for record in stream.records}
    measure = config.protocol.headline["reliability"]
    scores = _scores(read_lines(folder / schema.SCORES_FILE)[0], measure)
    found: list[Edit] = []
    for row in read_lines(folder / schema.EDITS_FILE)[0]:
        for id in row["ids"]:
            status, reason = _status(row, id)
            prompt, target = records.prompt_format.plain(requests[id].prompt), requests[id].target
            then, now = scores.get(("immediate", id)), scores.get(("final", id))
            place = len(found) + 1
            found.append(Edit(place, id, row["batch"], status, reason, prompt, target, then, now, measure))
    return found


def _scores(rows: Sequence[Mapping[str, Any]], measure: str) -> dict[tuple[str, str], float | None]:
    """By stage and id; the last interim rows stand for final ones that there are none of."""
    now = "final" if any(row["stage"] == "final" and "record" in row for row in rows) else "interim"
    stages = {"immediate": "immediate", now: "final"}
    of_records = [row for row in rows if "record" in row and row["stage"] in stages]
    return {(stages[row["stage"]], row["record"]): row["scores"].get(measure) for row in of_records}


def _status(row: Mapping[str, Any], id: str) -> tuple[str, str]:
    for status in (SKIPPED, FAILED):
        if id in row[status]:
            return status, str(row[status][id])
    return EDITED, ""


def main(run: str, as_json: bool) -> int:
    """Print the edits as a table, or one line of JSON each."""
    edits = edits_of(run)
    if as_json:
        for edit in edits:
            print(encode(asdict(edit)))
        return 0
    _print_table(edits)
    return 0


def _print_table(edits: Sequence[Edit]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from editbench.results.tables import console

    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for title in ("edit", "batch", "id", "prompt", "target", "then", "now"):
        table.add_column(
            title, justify="right" if title in ("edit", "batch", "then", "now") else "left", overflow="fold"
        )
    for edit in edits:
        scores = ["–" if score is None else f"{score:g}" for score in (edit.then, edit.now)]
        scores = scores if edit.status == EDITED else [edit.status, edit.reason]
        cells = (str(edit.number), str(edit.batch), edit.id, edit.prompt, edit.target, *scores)
        table.add_row(*(Text(visible(cell)) for cell in cells))
    shown = console()
    shown.print(table)
    done = [edit for edit in edits if edit.status == EDITED]
    lost = [edit for edit in done if edit.now is not None and edit.now < (edit.then or 0)]
    measure = edits[0].measure if edits else ""
    line = f"{len(done)} of {len(edits)} edited; then and now: {measure}, right after its batch and after the last edit"
    shown.print(Text(f"{line}; {len(lost)} have a lower score now than then"))

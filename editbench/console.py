"""What commands print, and what they can choose from."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from editbench.results.schema import Row


def show(rows: Sequence[Row], *, style: str = "table", by: Sequence[str] = (), marks: Any = None) -> None:
    """Print the leaderboard as a terminal table, "markdown" or "latex"."""
    from editbench.results import tables

    if style == "latex":
        from editbench.results.latex import to_latex

        print(to_latex(rows, by=by, marks=marks))
    elif style == "markdown":
        print(tables.to_markdown(rows, by=by, marks=marks))
    else:
        tables.print_table(rows, console=console(), by=by, marks=marks)


def show_comparison(rows: Sequence[Row], reference: Path) -> int:
    """Print how ``rows`` differ from a CSV of reference figures; returns the number of differences and refusals."""
    from rich.table import Table

    from editbench.results.reference import compare

    differences = compare(rows, reference)
    if not differences:
        print(f"{reference}: no row of it matches a run here")
        return 0
    refused = [d for d in differences if d["verdict"] == "refused"]
    for d in refused:
        print(f"{d['run']} is not compared with {reference}: {d['reason']}")
    differences = [d for d in differences if d["verdict"] != "refused"]
    if not differences:
        return len(refused)
    off = [d for d in differences if d["verdict"] != "same"]
    if off:
        table = Table("method", "measure", "measured", "reference", "difference", "", title=f"against {reference}")
        for d in off:
            cells = [str(d["key"].get("method", "")), str(d["measure"])]
            table.add_row(*cells, *(_figure(d[k]) for k in ("measured", "reference", "difference")), str(d["verdict"]))
        console().print(table)
    print(f"{len(differences) - len(off)} of {len(differences)} figures agree with {reference}")
    return len(refused) + len(off)


def show_difference(a: str, b: str, differences: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a paired comparison of two runs."""
    from rich.table import Table

    table = Table("measure", "a", "b", "a - b", "95 %", "p", "records", caption=f"a: {a}\nb: {b}")
    for measure, d in differences.items():
        interval = f"{_figure(d['low'])} … {_figure(d['high'])}"
        table.add_row(
            measure,
            *(_figure(d[k]) for k in ("a", "b", "difference")),
            interval,
            _figure(d["p_value"]),
            str(d["pairs"]),
        )
    console().print(table)


def console() -> Any:
    """Standard output; wide enough for the leaderboard where it is not a terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=220)


@contextmanager
def json_lines() -> Iterator[IO[str]]:
    """Standard output for lines of JSON alone: in the block, whatever else prints, prints to standard error.

    The file descriptors are changed, so that this holds for other processes too.
    """
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as lines:
        os.dup2(2, 1)
        try:
            yield lines
        finally:
            sys.stdout.flush()
            lines.flush()
            os.dup2(lines.fileno(), 1)


def row_as_json(row: Row, **facts: Any) -> str:
    """A row of the leaderboard as one line of strict JSON, further facts first; what is JSON in it is an object."""
    from editbench.results.leaderboard import columns_of
    from editbench.results.strict_json import encode

    values: dict[str, Any] = {name: row.get(name) for name in columns_of([row])}
    for name in ("settings", "parts", "missing"):
        if isinstance(values[name], str):
            values[name] = json.loads(values[name])
    return encode({**facts, **values})


def quiet_libraries() -> None:
    """Our own progress bars are enough. Warnings stay: a user gets none from us (a test sees to it), or needs them."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def report_failure(error: Exception) -> None:
    """One line for what users can mend; the traceback too for what only we can."""
    if not isinstance(error, (ValueError, OSError, RuntimeError)):
        traceback.print_exception(error)
    print(f"error: {error}", file=sys.stderr)


def conf_names(group: str) -> list[str]:
    """Names of the YAML files of a config group."""
    import editbench.conf

    folders = [Path(p) / group for p in editbench.conf.__path__]
    files = ((folder, file) for folder in folders for file in folder.rglob("*.yaml"))
    return sorted({file.relative_to(folder).with_suffix("").as_posix() for folder, file in files})


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "—" if value is None else str(value)

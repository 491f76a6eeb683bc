"""What commands print, and what they can choose from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    """Print how ``rows`` differ from a CSV of reference figures; returns the number of differences."""
    from rich.table import Table

    from editbench.results.reference import compare

    differences = compare(rows, reference)
    if not differences:
        print(f"{reference}: no row of it matches a run here")
        return 0
    off = [d for d in differences if d["verdict"] != "same"]
    if off:
        table = Table("method", "measure", "measured", "reference", "difference", "", title=f"against {reference}")
        for d in off:
            cells = [str(d["key"].get("method", "")), str(d["measure"])]
            table.add_row(*cells, *(_figure(d[k]) for k in ("measured", "reference", "difference")), str(d["verdict"]))
        console().print(table)
    print(f"{len(differences) - len(off)} of {len(differences)} figures agree with {reference}")
    return len(off)


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
    import sys

    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


def conf_names(group: str) -> list[str]:
    """Names of the YAML files of a config group."""
    import editbench.conf

    folders = [Path(p) / group for p in editbench.conf.__path__]
    files = ((folder, file) for folder in folders for file in folder.rglob("*.yaml"))
    return sorted({file.relative_to(folder).with_suffix("").as_posix() for folder, file in files})


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "—" if value is None else str(value)

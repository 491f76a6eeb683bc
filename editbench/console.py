"""What commands print, and what they can choose from."""

from __future__ import annotations

from pathlib import Path


def show(rows: list[dict[str, str | int | float | None]], *, markdown: bool = False) -> None:
    """Print the leaderboard."""
    from editbench.results import tables

    if markdown:
        print(tables.to_markdown(rows))
    else:
        tables.print_table(rows)


def show_comparison(rows: list[dict[str, str | int | float | None]], reference: Path) -> int:
    """Print how ``rows`` differ from a CSV of reference figures; returns the number of differences."""
    from rich.console import Console
    from rich.table import Table

    from editbench.results.reference import compare

    differences = compare(rows, reference)
    if not differences:
        print(f"{reference}: no row of it matches a run here")
        return 0
    table = Table(title=f"against {reference}", title_justify="left")
    for heading in ("method", "measure", "measured", "reference", "difference", ""):
        table.add_column(heading)
    off = [d for d in differences if d["verdict"] != "same"]
    for d in off or differences[:0]:
        cells = [str(d["key"].get("method", "")), d["measure"], *(_figure(d[k]) for k in ("measured", "reference", "difference"))]
        table.add_row(*cells, d["verdict"])
    if off:
        Console().print(table)
    print(f"{len(differences) - len(off)} of {len(differences)} figures agree with {reference}")
    return len(off)


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def conf_names(group: str) -> list[str]:
    """Names of the YAML files of a config group."""
    import editbench.conf

    folders = [Path(p) / group for p in editbench.conf.__path__]
    return sorted({f.stem for folder in folders for f in folder.glob("*.yaml")})



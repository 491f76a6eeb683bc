"""The leaderboard for people: the headline columns, as a table in the terminal or in Markdown.

A value stands with half the width of its 95 % interval. The best of each column among finished runs with the same
model, dataset and number of edits is bold; a run that did not finish is listed with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console
    from rich.table import Table

    from editbench.results.schema import Cell, Row

NO_VALUE = "—"
_REASON_LENGTH = 90


class Figure(NamedTuple):
    """A column of numbers: its title, the leaderboard column it shows, and which value is the best."""

    title: str
    column: str
    best: Callable[[Iterable[float]], float]
    digits: int = 3


FACTS = {"method": "method", "model": "model", "dataset": "dataset", "edits": "edits"}
FIGURES = (
    Figure("reliability", "reliability", max),
    Figure("generality", "generality", max),
    Figure("locality", "locality", max),
    Figure("other facts", "final.subject_fact.agreement", max),
    Figure("perplexity ratio", "perplexity_ratio", min),
    Figure("score", "score", max),
    Figure("s/edit", "seconds_per_edit", min, digits=2),
)
TITLES = (*FACTS.values(), *(figure.title for figure in FIGURES), "note")


class Shown(NamedTuple):
    """One cell of a table."""

    text: str
    bold: bool = False


def layout(rows: Sequence[Row], intervals: bool = True) -> list[list[Shown]]:
    """The table's cells, one list a run, in the order of `TITLES`; runs that can be compared stand together."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(_fact(row.get(name)) for name in ("model", "dataset", "edits"))].append(row)
    lines = []
    for key in sorted(groups, key=lambda key: (key[:2], len(key[2]), key[2])):  # edits: 100 before 1000
        group = sorted(groups[key], key=lambda row: (-(_number(row, "score") or -1.0), str(row["run"])))
        best = {figure: _best(group, figure) for figure in FIGURES}
        for row in group:
            facts = [Shown(_fact(row.get(name))) for name in FACTS]
            figures = [
                Shown(_figure(row, figure, intervals), _is_best(row, figure, best[figure])) for figure in FIGURES
            ]
            lines.append([*facts, *figures, Shown(_note(row))])
    return lines


def to_markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown, with a final newline."""
    lines = [TITLES, tuple("---:" if title not in (*FACTS.values(), "note") else "---" for title in TITLES)]
    lines += [tuple(_markdown(shown) for shown in line) for line in layout(rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def print_table(rows: Sequence[Row], console: Console | None = None) -> None:
    """Print the table to the terminal, its notes below; a terminal too narrow for the intervals gets none."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    lines = layout(rows)
    table = _table(lines)
    if console.measure(table).maximum > console.width:
        table = _table(layout(rows, intervals=False))
    console.print(table)
    for *_, note in lines:
        if note.text:
            console.print(Text(note.text))


def _table(lines: list[list[Shown]]) -> Table:
    """All columns but the notes, as `Text`, so that brackets in a name are no markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for title in TITLES[:-1]:
        table.add_column(title, justify="left" if title in FACTS.values() else "right", overflow="fold")
    for line in lines:
        table.add_row(*(Text(shown.text, style="bold" if shown.bold else "") for shown in line[:-1]))
    return table


def _number(row: Row, column: str) -> float | None:
    value = row.get(column)
    return value if isinstance(value, (int, float)) else None


def _best(group: Sequence[Row], figure: Figure) -> float | None:
    values = [_number(row, figure.column) for row in group if row["status"] == "done"]
    present = [value for value in values if value is not None]
    return figure.best(present) if len(present) > 1 else None


def _is_best(row: Row, figure: Figure, best: float | None) -> bool:
    return best is not None and row["status"] == "done" and _number(row, figure.column) == best


def _fact(value: Cell) -> str:
    return NO_VALUE if value is None else str(value)


def _figure(row: Row, figure: Figure, interval: bool) -> str:
    value = _number(row, figure.column)
    if value is None:
        return NO_VALUE
    low, high = _number(row, f"{figure.column}_low"), _number(row, f"{figure.column}_high")
    if low is None or high is None or not interval:
        return f"{value:.{figure.digits}f}"
    return f"{value:.{figure.digits}f} ± {(high - low) / 2:.{figure.digits}f}"


def _note(row: Row) -> str:
    """Which run did not finish, and why; of a finished one, how many records are in no average."""
    counts = ((_number(row, status), status) for status in ("unsupported", "failed", "skipped"))
    parts = [f"{count:.0f} {status}" for count, status in counts if count]
    if row["status"] != "done":
        reason = str(row["reason"] or "").strip().partition("\n")[0]
        reason = reason if len(reason) <= _REASON_LENGTH else f"{reason[: _REASON_LENGTH - 1]}…"
        parts = [": ".join(filter(None, (str(row["status"]), reason)))]
    return f"{row['run']}: {', '.join(parts)}" if parts else ""


def _markdown(shown: Shown) -> str:
    text = " ".join(shown.text.split())
    for character in "\\|*`<[":
        text = text.replace(character, f"\\{character}")
    return f"**{text}**" if shown.bold else text

"""The leaderboard for people: the headline columns, as a table in the terminal or in Markdown.

A value stands with its 95 % interval behind it, "0.985 [.952, .997]". The best of each column is bold among finished
runs that are comparable (`editbench.results.identity`), have the same seeds, and were scored on nearly all of their
records. Rows are in the order of the score in which records that were not edited count 0. A run that did not finish is
listed with the reason.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from editbench.results.identity import LABELS, schema_of, stands_for, told_apart
from editbench.results.schema import HEADLINES, SCHEMA
from editbench.results.seeds import missing_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from editbench.results.schema import Cell, Row


NO_VALUE = "—"

DAGGER = "†"

FROM_CACHE = "°"

VALUES = "values"
"""In the column ``cached``: what was computed for single edits."""

_REASON_LENGTH = 90

_SETTINGS_LENGTH = 60


class Figure(NamedTuple):
    """A column of numbers: its title, the leaderboard column it shows, and which value is the best."""

    title: str
    column: str
    best: Callable[[Iterable[float]], float]
    digits: int = 3


FACTS = ("method", "model", "dataset", "edits")

FIGURES = (
    Figure("reliability", "reliability", max),
    Figure("generality", "generality", max),
    Figure("locality", "locality", max),
    Figure("other facts", "final.subject_fact.agreement", max),
    Figure("perplexity ratio", "perplexity_ratio", min),
    Figure("score", "score", max),
    Figure("s/edit", "seconds_per_edit", min, digits=2),
)

OF_EDITED = tuple(
    Figure(f"edited PPL, {name}", f"final.texts.edited.perplexity_{name}", min)
    for name in ("mean", "median", "clipped")
)
"""Shown for `protocol=wise` on Hallucination: the paper prints the mean, which one sentence can decide."""

OF_COVERAGE = (Figure("coverage", "coverage", max, digits=2), Figure("penalised score", "score_penalised", max))
"""Shown where a method could not edit all records."""

EVERY = (*FIGURES, *OF_EDITED, *OF_COVERAGE)

COVERED = 0.95
"""Least coverage of a row that may be the best: a mean over the records that suit a method is no comparison."""

CONTROL = "unedited"
"""The method that is never the best."""

TESTED = (*HEADLINES, "score")
"""Columns whose differences are tested."""


class Shown(NamedTuple):
    """One cell of a table."""

    text: str
    bold: bool = False
    worse: bool = False


class Marks(NamedTuple):
    """What the significance tests say of some rows; made by `significance.marks`.

    Attributes:
        worse: (content hash, column) of each figure that is worse than the best beside it by more than chance.
        untested: Comparisons that could not be made, and why.
    """

    worse: frozenset[tuple[Cell, str]] = frozenset()
    untested: tuple[str, ...] = ()


class Layout(NamedTuple):
    """A table's content, whatever its form.

    Attributes:
        titles: Of the columns: facts, figures, and the note.
        groups: Groups of rows that can be compared; a row is one `Shown` a column.
        legend: What intervals, bold and † mean, where there is something to explain.
    """

    titles: tuple[str, ...]
    groups: list[list[list[Shown]]]
    legend: list[str]

    @property
    def lines(self) -> list[list[Shown]]:
        """All rows."""
        return [line for group in self.groups for line in group]

    def is_figure(self, title: str) -> bool:
        """Whether this column holds numbers to compare."""
        return any(title == figure.title for figure in EVERY)


def layout(
    rows: Sequence[Row], *, by: Iterable[str] = (), marks: Marks | None = None, intervals: bool = True
) -> Layout:
    """Lay the rows out, groups that can be compared apart.

    Args:
        rows: Of runs, or of runs grouped over seeds.
        by: Further columns to show.
        marks: What `significance.marks` says of these rows; without them no figure has a dagger.
        intervals: Whether a figure has its interval beside it.
    """
    grouped = any(_number(row, "seeds") not in (None, 1) for row in rows)
    told = ["seeds"] if grouped else ["seed"] if len({row.get("seed") for row in rows}) > 1 else []
    facts = dict.fromkeys([*FACTS, *by, *told])
    names = _method_names(rows)
    shown = _shown_figures(rows)
    groups = []
    for group in comparable(rows):
        best = {figure: best_row(group, figure.column) for figure in shown}
        lines = []
        for row in group:
            texts = [names[id(row)] if fact == "method" else _fact(row.get(fact)) for fact in facts]
            figures = [_figure(row, figure, best[figure], marks or Marks(), intervals) for figure in shown]
            lines.append([*map(Shown, texts), *figures, Shown(_note(row))])
        groups.append(lines)
    return Layout(
        (*facts, *(figure.title for figure in shown), "note"), groups, _legend(rows, grouped, intervals, marks)
    )


def _shown_figures(rows: Sequence[Row]) -> tuple[Figure, ...]:
    """The columns of numbers that say something about these rows."""
    edited = [figure for figure in OF_EDITED if any(_value(row, figure) is not None for row in rows)]
    uncovered = any((coverage := _number(row, "coverage")) is not None and coverage < 1 for row in rows)
    return (*FIGURES, *edited, *(OF_COVERAGE if uncovered else ()))


def comparable(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows in groups of those that can be compared, best penalised score first."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[(*_labels(row), _fact(row.get("seed")), stands_for(row, "comparable_group"))].append(row)
    keys = sorted(groups, key=_order)
    return [sorted(groups[key], key=_rank) for key in keys]


def best_row(group: Sequence[Row], column: str) -> Row | None:
    """The first of the rows that compete with the best value, if there are two or more to choose from."""
    figure = next(figure for figure in EVERY if figure.column == column)
    values = [(row, value) for row in group if _competes(row, column) and (value := _value(row, figure)) is not None]
    if len(values) < 2:
        return None
    best = figure.best([value for _, value in values])
    return next(row for row, value in values if value == best)


def _competes(row: Row, column: str) -> bool:
    """Whether a row may be the best of a column: finished, and scored on nearly all records in all of its seeds.

    The unedited control does not compete: nothing leaves everything as it was so well as doing nothing. Neither does
    a run that does not say what it was made with.
    """
    known = row["status"] == "done" and bool(row.get("comparable_group")) and row.get("method") != CONTROL
    coverage = _number(row, "coverage")
    return known and (coverage is None or coverage >= COVERED) and column not in missing_in(row)


def _labels(row: Row) -> tuple[str, ...]:
    return tuple(_fact(row.get(name)) for name in LABELS)


def _order(key: tuple[str, ...]) -> tuple[object, ...]:
    """Of a group: by its labels and seeds, 100 edits before 1000."""
    *labels, edits, seeds, group = key
    return (*labels, len(edits), edits, len(seeds), seeds, group)


def _rank(row: Row) -> tuple[object, ...]:
    """The best penalised score first; of equal ones that of most records."""
    values = (_number(row, column) for column in ("score_penalised", "coverage", "score"))
    return (*(-(-1.0 if value is None else value) for value in values), str(row["run"]))


def to_markdown(rows: Sequence[Row], *, by: Iterable[str] = (), marks: Marks | None = None) -> str:
    """The table in Markdown, its legend below, with a final newline."""
    table = layout(rows, by=by, marks=marks)
    lines = [table.titles, tuple("---:" if table.is_figure(title) else "---" for title in table.titles)]
    lines += [tuple(_markdown(shown) for shown in line) for line in table.lines]
    legend = "".join(f"\n{_markdown(Shown(text))}\n" for text in table.legend)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + legend


def print_table(
    rows: Sequence[Row], console: Console | None = None, *, by: Iterable[str] = (), marks: Marks | None = None
) -> None:
    """Print the table to the terminal, its notes below.

    On a narrow terminal one row stands upright, and several have no intervals.
    """
    from rich.console import Console
    from rich.text import Text

    console, by = console or Console(), list(by)
    shown = layout(rows, by=by, marks=marks)
    table, legend = _table(shown), shown.legend
    if console.measure(table, options=console.options.update(max_width=1000)).maximum > console.width:
        without = layout(rows, by=by, marks=marks, intervals=False)
        table, legend = (_upright(shown), legend) if len(rows) == 1 else (_table(without), without.legend)
    console.print(table)
    for text in (*(note.text for *_, note in shown.lines if note.text), *legend):
        console.print(Text(text))


def _table(shown: Layout) -> Table:
    """All columns but the notes, as `Text`, so that brackets in a name are no markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for title in shown.titles[:-1]:
        table.add_column(title, justify="right" if shown.is_figure(title) else "left", overflow="fold")
    for line in shown.lines:
        table.add_row(*(Text(_dagger(cell), style="bold" if cell.bold else "") for cell in line[:-1]))
    return table


def _upright(shown: Layout) -> Table:
    """One row, a line a column."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for title, cell in zip(shown.titles[:-1], shown.lines[0], strict=False):
        table.add_row(Text(title, style="bold"), Text(cell.text))
    return table


def _number(row: Row, column: str) -> float | None:
    value = row.get(column)
    return value if isinstance(value, (int, float)) else None


def _fact(value: Cell) -> str:
    return NO_VALUE if value is None else str(value)


def _value(row: Row, figure: Figure) -> float | None:
    """What a row shows in a column; perplexities of edits are for the protocol and dataset that print them."""
    if figure in OF_EDITED and (row.get("protocol"), row.get("dataset")) != ("wise", "hallucination"):
        return None
    return _number(row, figure.column)


def _figure(row: Row, figure: Figure, best: Row | None, marks: Marks, interval: bool) -> Shown:
    value = _value(row, figure)
    if value is None:
        return Shown(NO_VALUE)
    bold = best is not None and _competes(row, figure.column) and value == _number(best, figure.column)
    worse = (row.get("content_hash"), figure.column) in marks.worse
    low, high = _number(row, f"{figure.column}_low"), _number(row, f"{figure.column}_high")
    cached = figure.column == "seconds_per_edit" and VALUES in str(row.get("cached") or "").split(", ")
    text = f"{value:.{figure.digits}f}{FROM_CACHE if cached else ''}"
    if low is not None and high is not None and interval:
        text = f"{text} [{_end(low, figure.digits)}, {_end(high, figure.digits)}]"
    if missing := missing_in(row).get(figure.column):
        seeds = _number(row, "seeds") or 0
        text = f"{text} ({seeds - missing:.0f} of {seeds:.0f} seeds)"
    return Shown(text, bold, worse)


def _end(value: float, digits: int) -> str:
    """An interval's end, short: ".952", "1"."""
    text = f"{value:.{digits}f}"
    return f"{float(text):.0f}" if float(text).is_integer() else text.replace("0.", ".", 1) if abs(value) < 1 else text


def _method_names(rows: Iterable[Row]) -> dict[int, str]:
    """Each row's method, by the row's identity; with the settings that tell it from its namesakes beside it."""
    names: dict[int, str] = {}
    alike: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        alike[_labels(row)].append(row)
    for group in alike.values():
        namesakes: dict[Cell, list[Row]] = defaultdict(list)
        for row in group:
            namesakes[_named(row)].append(row)
        for method, same in namesakes.items():
            settings = [_settings(row) for row in same]
            differ = Counter(key for one in settings for key in one if any(one[key] != o.get(key) for o in settings))
            for row, one in zip(same, settings, strict=True):
                told = ", ".join(f"{key}={one[key]}" for key in sorted(differ) if key in one)
                told = told if len(told) <= _SETTINGS_LENGTH else f"{told[: _SETTINGS_LENGTH - 1]}…"
                names[id(row)] = f"{_fact(method)} ({told})" if told else _fact(method)
    return names


def _named(row: Row) -> Cell:
    """The method, and its constants where they are not those that the model's own settings have."""
    constants = row.get("hparams")
    return row.get("method") if constants in (None, "tuned") else f"{row.get('method')}, {constants}"


def _settings(row: Row) -> dict[str, Any]:
    text = row.get("method_config")
    settings = json.loads(text) if isinstance(text, str) else {}
    return settings if isinstance(settings, dict) else {}


def _note(row: Row) -> str:
    """Which run did not finish, and why; of a finished one, what is in no average, and why it does not compete."""
    counts = ((_number(row, status), status) for status in ("unsupported", "failed", "skipped"))
    parts = [f"{count:.0f} {status}" for count, status in counts if count]
    if (coverage := _number(row, "coverage")) is not None and coverage < COVERED:
        parts.append(f"never the best: coverage is below {COVERED}")
    if schema_of(row) < SCHEMA:
        parts.append(f"made before schema {SCHEMA} and not compared; run it again")
    if row["status"] != "done":
        reason = str(row["reason"] or "").strip().partition("\n")[0]
        reason = reason if len(reason) <= _REASON_LENGTH else f"{reason[: _REASON_LENGTH - 1]}…"
        parts = [": ".join(filter(None, (str(row["status"]), reason)))]
    return f"{row['run']}: {', '.join(parts)}" if parts else ""


def _legend(rows: Sequence[Row], grouped: bool, intervals: bool, marks: Marks | None) -> list[str]:
    legend = told_apart(rows)
    legend += _other_seeds([row for row in rows if row["status"] == "done" and row.get("comparable_group")])
    if any(VALUES in str(row.get("cached") or "") for row in rows):
        legend.append(f"{FROM_CACHE} values were read from the cache; counted is what they took when they were found.")
    if grouped:
        legend.append("Means over seeds; [95 % interval] over records and seeds, of one seed over records alone.")
    if not intervals and any(_number(row, "reliability_low") is not None for row in rows):
        legend.append("Too narrow for the 95 % intervals: --format markdown, the CSV and a wider terminal have them.")
    if marks is not None:
        test = "p < 0.05, paired permutation test over records, Holm's correction"
        legend.append(f"{DAGGER} worse than the best (bold) beside it: {test}.")
        legend += marks.untested
    return legend


def _other_seeds(rows: Sequence[Row]) -> list[str]:
    """Sentences on rows that are not compared since they have other seeds."""
    by_group: dict[Cell, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_group[row.get("comparable_group")][_fact(row.get("seed"))].append(str(row.get("method")))
    several = [seeds for seeds in by_group.values() if len(seeds) > 1]
    if all(_number(row, "seeds") in (None, 1) for row in rows):
        return (
            ["Only runs of one seed are compared; --by method,dataset makes one row of all seeds."] if several else []
        )
    found = (
        "; ".join(f"{seeds} of {', '.join(dict.fromkeys(methods))}" for seeds, methods in sorted(one.items()))
        for one in several
    )
    return [f"Rows with other seeds are not compared: {text}." for text in found]


def _dagger(shown: Shown) -> str:
    return f"{shown.text} {DAGGER}" if shown.worse else shown.text


def _markdown(shown: Shown) -> str:
    text = " ".join(_dagger(shown).split())
    for character in "\\|*`<[":
        text = text.replace(character, f"\\{character}")
    return f"**{text}**" if shown.bold else text


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
            table.add_row(
                *cells, *(_four_digits(d[k]) for k in ("measured", "reference", "difference")), str(d["verdict"])
            )
        console().print(table)
    print(f"{len(differences) - len(off)} of {len(differences)} figures agree with {reference}")
    return len(refused) + len(off)


def show_difference(a: str, b: str, differences: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a paired comparison of two runs."""
    from rich.table import Table

    table = Table("measure", "a", "b", "a - b", "95 %", "p", "records", caption=f"a: {a}\nb: {b}")
    for measure, d in differences.items():
        interval = f"{_four_digits(d['low'])} … {_four_digits(d['high'])}"
        table.add_row(
            measure,
            *(_four_digits(d[k]) for k in ("a", "b", "difference")),
            interval,
            _four_digits(d["p_value"]),
            str(d["pairs"]),
        )
    console().print(table)


def console() -> Any:
    """Standard output; wide enough for the leaderboard where it is not a terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=220)


def _four_digits(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "—" if value is None else str(value)

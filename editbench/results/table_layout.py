"""Layout of the leaderboard's table: figures with intervals, groups of comparable rows, notes and legend, in no format.

The best of each column is bold among finished runs that are comparable (`editbench.results.identity`), have the same
seeds, and were scored on nearly all of their records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from editbench.results.columns import Column, column, mapping_in, number
from editbench.results.empty_columns import empty_columns
from editbench.results.identity import LABELS, copies, digest_or_own, look_alikes, schema_of
from editbench.results.labels import label_value, labels_of, titles_of
from editbench.results.schema import HEADLINES, SCHEMA, Cell, Row
from editbench.visible_text import visible

NO_VALUE = "—"
DAGGER = "†"
FROM_CACHE = "°"
VALUES = "values"  # of single edits, in the column `cached`
_MAX_REASON = 90
_MAX_SETTINGS = 60

FIGURES = (*HEADLINES, "final.subject_fact.agreement", "perplexity_ratio", "score", "seconds_per_edit")
OF_EDITED = tuple(f"final.texts.edited.perplexity_{name}" for name in ("mean", "median", "clipped"))
"""Shown for `protocol=wise` on Hallucination: the paper prints the mean, which one sentence can decide."""
FOLLOWING = ("alias", "reasoning", "multi_hop", "portability", "chain")
BY = ("exact_match", "token_accuracy", "generation", "generation_exact", "generation_f1", "nll_contrast")
"""Kinds of what follows from edits, shown where a row has any, by the first of these metrics that it has."""
OF_COVERAGE = ("coverage", "score_penalised")  # shown where a method could not edit all records
_NAMING = ("edits", "batch_size", "seed", "seeds")  # numbers that are labels
TESTED = (*HEADLINES, "score")  # columns whose differences are tested

MIN_COVERAGE = 0.95
"""Of a row that may be the best: a mean over the records that suit a method is no comparison."""
CONTROL = "unedited"
"""The method that is never the best: nothing keeps other answers so well as doing nothing."""


class TableCell(NamedTuple):
    """A cell's text and look."""

    text: str
    bold: bool = False
    worse: bool = False


class Marks(NamedTuple):
    """Results of the significance tests between rows; made by `compare.marks`."""

    worse: frozenset[tuple[Cell, str]] = frozenset()  # content hash and column of each figure worse than the best
    untested: tuple[str, ...] = ()  # sentences on comparisons that could not be made


class Layout(NamedTuple):
    """A table's content in any format."""

    titles: tuple[str, ...]  # of all columns: facts, figures, and the note
    figures: tuple[str, ...]  # of the columns of figures
    groups: list[list[list[TableCell]]]  # comparable rows; a row has one cell a column
    legend: list[str]  # sentences on intervals, bold and †, where the table has them

    @property
    def lines(self) -> list[list[TableCell]]:
        """All rows."""
        return [line for group in self.groups for line in group]

    @property
    def notes(self) -> list[str]:
        """All notes that are not empty."""
        return [note.text for *_, note in self.lines if note.text]


class View(NamedTuple):
    """What of the rows a table shows, and how."""

    columns: tuple[str, ...] = ()  # instead of the usual ones
    figures: tuple[str, ...] = ()  # instead of the usual ones, beside the usual labels
    stage: str = "final"  # of the scores that the rows hold
    ordered: bool = False  # whether the rows stay in their order
    paper: bool = False  # whether runs that did not finish have no line, but a note

    def at_stage(self, name: str) -> str:
        """The name of a column "final.…" at the table's stage."""
        return name.replace("final.", f"{self.stage}.", 1) if name.startswith("final.") else name


def layout(
    rows: Sequence[Row],
    *,
    by: Iterable[str] = (),
    marks: Marks | None = None,
    intervals: bool = True,
    view: View = View(),  # noqa: B008 - it cannot change
) -> Layout:
    """Lay out rows, of runs or of groups over seeds, with further columns ``by``; ``marks`` set daggers.

    With ``by``, rows stay in the order of these columns.
    """
    by = list(by)
    outside = [row for row in rows if row["status"] != "done"] if view.paper else []
    rows = [row for row in rows if not any(row is one for one in outside)]
    facts = {name: about for row in rows for name, about in mapping_in(row, "metrics").items()}
    labels, shown = _columns(rows, by, view, facts)
    names, groups = _method_names(rows), comparable(rows)
    best = {id(row): {name: best_row(group, name) for name in shown} for group in groups for row in group}
    if view.ordered or by:
        groups = [list(several) for _, several in groupby(rows, lambda row: () if view.ordered else row.get(by[0]))]
    lines: list[list[list[TableCell]]] = []
    for group in groups:
        lines.append([])
        for row in group:
            texts = [names[id(row)] if label == "method" else _shown(row, label) for label in labels]
            of = best[id(row)]
            figures = [_figure(row, name, one, of[name], marks or Marks(), intervals) for name, one in shown.items()]
            cells = [*map(TableCell, texts), *figures, TableCell(_note(row))]
            lines[-1].append([cell._replace(text=visible(cell.text)) for cell in cells])
    titles = tuple(visible(one.title) for one in shown.values())
    legend = [*map(_note, outside), *_legend(rows, labels, marks), *empty_columns(rows, list(shown))]
    return Layout((*titles_of(labels), *titles, "note"), titles, lines, list(map(visible, legend)))


def _columns(
    rows: Sequence[Row], by: Sequence[str], view: View, facts: dict[str, dict[str, object]]
) -> tuple[list[str], dict[str, Column]]:
    """Labels, and figures by name, of a table."""
    if view.columns:
        figures = [name for name in view.columns if column(name, facts).digits is not None and name not in _NAMING]
        return [name for name in view.columns if name not in figures], {name: column(name, facts) for name in figures}
    if view.figures:
        return labels_of(rows, by), {name: column(name, facts) for name in map(view.at_stage, view.figures)}
    following = [name for kind in FOLLOWING if (name := _following(rows, kind)) is not None]
    edited = [name for name in OF_EDITED if any(_value(row, name) is not None for row in rows)]
    uncovered = any((coverage := number(row, "coverage")) is not None and coverage < 1 for row in rows)
    collapsed = ["collapsed_at"] if any(row.get("collapsed_at") is not None for row in rows) else []
    names = (*FIGURES, *following, *edited, *(OF_COVERAGE if uncovered else ()), *collapsed)
    return labels_of(rows, by), {name: column(name, facts) for name in map(view.at_stage, names)}


def _following(rows: Sequence[Row], kind: str) -> str | None:
    """The column that stands for a kind of what follows from edits; None if no row has it."""
    names = (f"final.{kind}.{metric}" for metric in BY)
    return next((name for name in names if any(_value(row, name) is not None for row in rows)), None)


def comparable(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows in comparable groups, best penalised score first; groups by labels and seeds, 100 edits before 1000."""
    groups: dict[tuple[str | int, ...], list[Row]] = defaultdict(list)
    for row in rows:
        *labels, edits = _labels(row)
        seeds, group = _text(row.get("seed")), digest_or_own(row, "comparable_group")
        groups[(*labels, len(edits), edits, len(seeds), seeds, group)].append(row)
    return [sorted(groups[key], key=_rank) for key in sorted(groups)]


def best_row(group: Sequence[Row], name: str) -> Row | None:
    """The first of the rows that compete with the best value of a column; None with fewer than two rows."""
    values = [(row, value) for row in group if _competes(row, name) and (value := _value(row, name)) is not None]
    higher = column(name, mapping_in(values[0][0], "metrics")).higher_is_better if values else None
    if len(values) < 2 or higher is None:
        return None
    best = (max if higher else min)(value for _, value in values)
    if higher and best <= 0:
        return None  # nothing is good at all
    return next(row for row, value in values if value == best)


def _competes(row: Row, name: str) -> bool:
    """Whether a row may be the best of a column.

    It must be finished, of a whole stream, of known parts, of nearly all records in all seeds, and not tuned on its own
    stream.
    """
    known = row["status"] == "done" and bool(row.get("comparable_group")) and row.get("method") != CONTROL
    known = known and not row.get("tuned_on") and row.get("collapsed_at") is None
    coverage = number(row, "coverage")
    return known and (coverage is None or coverage >= MIN_COVERAGE) and name not in mapping_in(row, "missing")


def _labels(row: Row) -> tuple[str, ...]:
    return tuple(_text(row.get(name)) for name in LABELS)


def _shown(row: Row, label: str) -> str:
    """A label's text; weights that were quantised or fetched are a slightly other model, and say so."""
    precision = row.get("model_precision") if label == "model" else None
    text = _text(label_value(row, label))
    return f"{text} ({precision})" if precision else text


def _rank(row: Row) -> tuple[object, ...]:
    """The best penalised score first; of equal ones the highest coverage. Runs that collapsed come last."""
    values = (number(row, name) for name in ("score_penalised", "coverage", "score"))
    return (
        row.get("collapsed_at") is not None,
        *(-(-1.0 if value is None else value) for value in values),
        str(row["run"]),
    )


def _text(value: Cell) -> str:
    return NO_VALUE if value is None else str(value)


def _value(row: Row, name: str) -> float | None:
    if name in OF_EDITED and (row.get("protocol"), row.get("dataset")) != ("wise", "hallucination"):
        return None
    return number(row, name)


def _figure(row: Row, name: str, one: Column, best: Row | None, marks: Marks, interval: bool) -> TableCell:
    value, digits = _value(row, name), one.digits or 0
    if value is None:
        return TableCell(NO_VALUE)
    bold = best is not None and _competes(row, name) and value == number(best, name)
    worse = (row.get("content_hash"), name) in marks.worse
    low, high = number(row, f"{name}_low"), number(row, f"{name}_high")
    cached = name == "seconds_per_edit" and VALUES in str(row.get("cached") or "").split(", ")
    text = f"{value:.{digits}f}{FROM_CACHE if cached else ''}"
    if low is not None and high is not None and interval:
        text = f"{text} [{_end(low, digits)}, {_end(high, digits)}]"
    if missing := mapping_in(row, "missing").get(name):
        seeds = number(row, "seeds") or 0
        text = f"{text} ({seeds - missing:.0f} of {seeds:.0f} seeds)"
    return TableCell(text, bold, worse)


def _end(value: float, digits: int) -> str:
    """An interval's end, short: ".952", "1"."""
    text = f"{value:.{digits}f}"
    return f"{float(text):.0f}" if float(text).is_integer() else text.replace("0.", ".", 1) if abs(value) < 1 else text


def _method_names(rows: Iterable[Row]) -> dict[int, str]:
    """Each row's method by the row's `id`, with the hparams' origin and the settings that differ from like rows."""
    names: dict[int, str] = {}
    alike: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        origin = "" if row.get("hparams") in (None, "tuned") else f", {row['hparams']}"
        alike[(*_labels(row), f"{_text(row.get('method'))}{origin}")].append(row)
    for (*_, name), same in alike.items():
        settings = [mapping_in(row, "method_config") for row in same]
        differ = {key for one in settings for key in one if any(one[key] != other.get(key) for other in settings)}
        for row, one in zip(same, settings, strict=True):
            text = ", ".join(f"{key}={one[key]}" for key in sorted(differ) if key in one)
            names[id(row)] = f"{name} ({_cut(text, _MAX_SETTINGS)})" if text else name
    return names


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _note(row: Row) -> str:
    """Why a run did not finish; of a finished one, the records in no average, and why it does not compete."""
    counts = ((number(row, status), status) for status in ("unsupported", "failed", "skipped"))
    parts = [f"{count:.0f} {status}" for count, status in counts if count]
    if (coverage := number(row, "coverage")) is not None and coverage < MIN_COVERAGE:
        parts.append(f"never the best: coverage is below {MIN_COVERAGE}")
    if row.get("tuned_on"):
        parts.append(f"never the best: tuned on {row['tuned_on']} of these edits")
    if (at := number(row, "collapsed_at")) is not None:
        seeds = number(row, "seeds") or 1
        some = seeds - mapping_in(row, "missing").get("collapsed_at", 0)
        when = f"at edit {at:.0f}" if seeds == 1 else f"in {some:.0f} of {seeds:.0f} seeds"
        parts.append(f"collapsed {when} ({row.get('collapsed_by')}): figures are those of the edits until then")
    if (batch := number(row, "nonfinite_batch")) is not None:
        parts.append(f"the model gives NaN or infinity from batch {batch:.0f} on")
    if schema_of(row) < SCHEMA:
        parts.append(f"made before schema {SCHEMA} and not compared; run it again")
    if row["status"] != "done":
        reason = _cut(str(row["reason"] or "").strip().partition("\n")[0], _MAX_REASON)
        parts = [": ".join(filter(None, (str(row["status"]), reason)))]
    return f"{row['run']}: {', '.join(parts)}" if parts else ""


def _legend(rows: Sequence[Row], labels: Sequence[str], marks: Marks | None) -> list[str]:
    legend = [*look_alikes(rows), *copies(rows)]
    legend += _other_seeds([row for row in rows if row["status"] == "done" and row.get("comparable_group")])
    if any(VALUES in str(row.get("cached") or "") for row in rows):
        legend.append(f"{FROM_CACHE} values were read from the cache; counted is what they took when they were found.")
    if "seeds" in labels:
        legend += _reordered(rows)
        legend.append("Means over seeds; [95 % interval] over records and seeds, of one seed over records alone.")
    if marks is not None:
        test = "p < 0.05, paired permutation test over records, Holm's correction"
        legend.append(f"{DAGGER} worse than the best (bold) beside it: {test}.")
        legend += marks.untested
    return legend


def _reordered(rows: Sequence[Row]) -> list[str]:
    """A sentence where the seeds behind a row have the same records in another order."""
    several = [row for row in rows if (number(row, "seeds") or 1) > 1]
    if not any(mapping_in(row, "parts").get("stream.sample") == "first" for row in several):
        return []
    return ["Seeds of stream.sample=first edit the same records in another order; stream.sample=random draws others."]


def _other_seeds(rows: Sequence[Row]) -> list[str]:
    """Sentences on rows that are not compared since they have other seeds."""
    by_group: dict[Cell, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_group[row.get("comparable_group")][_text(row.get("seed"))].append(str(row.get("method")))
    several = [seeds for seeds in by_group.values() if len(seeds) > 1]
    if several and all(number(row, "seeds") in (None, 1) for row in rows):
        return ["Only runs of one seed are compared; --by method,dataset makes one row of all seeds."]
    found = []
    for one in several:
        parts = [f"{seeds} of {', '.join(dict.fromkeys(methods))}" for seeds, methods in sorted(one.items())]
        found.append(f"Rows with other seeds are not compared: {'; '.join(parts)}.")
    return found

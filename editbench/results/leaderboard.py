"""From run folders to one table: a row for each run, whatever became of it; and the CSV, safe for spreadsheets."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.files import ResultsError, explained, write_atomic
from editbench.results.columns import HEAD_COLUMNS, TAIL_COLUMNS, TEXT_COLUMNS
from editbench.results.run_folder import digest, is_run, read_run
from editbench.results.schema import (
    CONFIG_FILE,
    EDITS_FILE,
    HEADLINES,
    RUN_FILE,
    SCORES_FILE,
    SHARE,
    Cell,
    Row,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd


COLUMNS = {**HEAD_COLUMNS, **TAIL_COLUMNS}

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

_NUMBER = re.compile(r"-?[0-9]+(?P<fraction>\.[0-9]*)?(?P<exponent>[eE][+-]?[0-9]+)?")


def collect(*roots: str | Path) -> list[Row]:
    """One row for each run in these results folders, by folder and name; a run that lies in two of them is listed once.

    A run that failed, still runs, or is damaged has a row too, with its status and reason.

    Raises:
        ResultsError: If a root is not a folder.
    """
    return list(collect_folders(*roots).values())


def collect_folders(*roots: str | Path, conditions: Iterable[str] = ()) -> dict[Path, Row]:
    """What `collect` returns, by run folder, for those who need more of a run than its row.

    Args:
        roots: Results folders.
        conditions: Only the runs that meet all of them; see `where`.

    Raises:
        ResultsError: If a root is not a folder, or a condition is not understood.
    """
    found: dict[tuple[Cell, Cell], tuple[Path, Row]] = {}
    for root in map(Path, roots):
        if not root.is_dir():
            raise ResultsError(f"{root} is not a folder; give the folder that holds the run folders")
        for folder in sorted(path for path in root.iterdir() if is_run(path)):
            row = read_row(folder)
            found.setdefault((row["run"], row["content_hash"] or str(folder.resolve())), (folder, row))
    kept = {id(row) for row in where([row for _, row in found.values()], conditions)}
    return {folder: row for folder, row in found.values() if id(row) in kept}


def read_row(folder: Path) -> Row:
    """The leaderboard row of one run; of a damaged run, only what can be trusted."""
    row: Row = dict.fromkeys(COLUMNS)
    row["run"] = folder.name
    try:
        info: Mapping[str, Any] = read_run(folder)
    except ResultsError as error:
        return {**row, "status": "damaged", "reason": str(error)}
    try:
        files = (RUN_FILE, CONFIG_FILE, SCORES_FILE, EDITS_FILE)
        row["content_hash"] = digest(*(folder / name for name in files))
    except ResultsError as error:
        info = {**info, "status": "damaged", "summary": None, "costs": None, "reason": str(error)}
    row["status"] = info["status"]
    row.update({name: _cell(info, *column.path) for name, column in COLUMNS.items() if column.path})
    row["seeds"] = 1
    row["schema"] = _cell(info, "provenance", "schema") or 1
    for name, path in {"method_config": ("method", "config"), "parts": ("parts",)}.items():
        if found := _mapping(info, "provenance", *path):
            row[name] = json.dumps(found, sort_keys=True)
    ranges = _mapping(info, "summary", "ranges")
    row["shares"] = ", ".join(sorted(name for name, within in ranges.items() if tuple(within) == SHARE)) or None
    row.update(_measures(info, "immediate") | _measures(info, "final"))
    row.update(_model_columns(info, "before") | _model_columns(info, "immediate") | _model_columns(info, "final"))
    row["perplexity_before"] = _perplexity_before(info)
    row["perplexity_ratio"] = _ratio(row["perplexity_after"], row["perplexity_before"])
    row["coverage"] = _coverage(row)
    row["score_penalised"] = _penalised(row)
    cached = _mapping(info, "costs").get("cached")
    row["cached"] = ", ".join(map(str, cached)) or None if isinstance(cached, list) else None
    row["seconds_per_edit"] = _ratio(row["edit_seconds"], row["edits_made"])
    kept = [b for where in ("device", "host", "disk") if isinstance(b := row[f"footprint_{where}_bytes"], int)]
    row["bytes_per_edit"] = _ratio(sum(kept), row["edits_made"]) if kept else None
    return row


def _measures(info: Mapping[str, Any], stage: str) -> Row:
    """Columns for all measures of a stage: "final.rewrite.exact_match", "..._n", "..._low", "..._high"."""
    row: Row = {}
    for name in _mapping(info, "summary", stage, "measures"):
        row.update(_measure(info, f"{stage}.{name}", "summary", stage, "measures", name))
    return row


def _model_columns(info: Mapping[str, Any], stage: str) -> Row:
    """Columns of what the model as a whole scored: "final.texts.plain.perplexity", "final.ability.sst2.acc"."""
    row: Row = {}
    for of in _mapping(info, "summary", stage, "model"):
        for name in _mapping(info, "summary", stage, "model", of):
            path = ("summary", stage, "model", of, name)
            if of.startswith("ability."):
                row.update(_measure(info, f"{stage}.{of}.{name}", *path))
            elif stage != "before":
                row[f"{stage}.texts.{of.removeprefix('perplexity.')}.{name}"] = _cell(info, *path, "mean")
    return row


def _measure(info: Mapping[str, Any], column: str, *path: str) -> Row:
    """The `Measure` at this path as four columns."""
    endings = {"mean": "", "n": "_n", "low": "_low", "high": "_high"}
    return {f"{column}{ending}": _cell(info, *path, key) for key, ending in endings.items()}


def _perplexity_before(info: Mapping[str, Any]) -> Cell:
    """Of the plain texts, from the baseline, or from a checkpoint at zero edits."""
    summary = _mapping(info, "summary")
    interim = summary.get("interim")
    for part in (summary.get("before"), *(interim if isinstance(interim, list) else ())):
        if isinstance(part, dict) and _cell(part, "edits") == 0:
            return _cell(part, "model", "perplexity.plain", "perplexity", "mean")
    return None


def _coverage(row: Row) -> float | None:
    """Share of the records that a method could have edited, and was scored on; None where nothing was scored yet."""
    scored, *others = (row[status] for status in ("scored", "unsupported", "failed"))
    if not isinstance(scored, (int, float)):
        return None
    asked = scored + sum(count for count in others if isinstance(count, (int, float)))
    return scored / asked if asked else None


def _penalised(row: Row) -> float | None:
    """The score, had every record that was not edited a reliability and a generality of 0; locality as measured.

    With none edited it is 0, the model's own locality left aside.
    """
    if row["coverage"] == 0:
        return 0.0
    three = [row[name] for name in HEADLINES]
    numbers = [float(value) for value in (row["coverage"], *three) if isinstance(value, (int, float))]
    if len(numbers) < 1 + len(three):
        return None
    share, reliability, generality, locality = numbers
    factors = (reliability * share, generality * share, locality)
    return len(factors) / sum(1 / one for one in factors) if all(factors) else 0.0


def _ratio(above: Cell, below: Cell) -> Cell:
    if isinstance(above, (int, float)) and isinstance(below, (int, float)) and below > 0:
        return above / below
    return None


def _mapping(tree: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The mapping at this path, or an empty one."""
    for key in path:
        found = tree.get(key)
        if not isinstance(found, dict):
            return {}
        tree = found
    return tree


def _cell(tree: Mapping[str, Any], *path: str) -> Cell:
    """The value at this path, or None."""
    value = _mapping(tree, *path[:-1]).get(path[-1])
    return value if isinstance(value, (str, int, float)) else None


def where(rows: Sequence[Row], conditions: Iterable[str]) -> list[Row]:
    """The rows that meet all conditions, each "column=value". Numbers are compared as numbers.

    Raises:
        ResultsError: If a condition has another form or names an unknown column.
    """
    rows = list(rows)
    known = columns_of(rows)
    for condition in conditions:
        name, equals, wanted = condition.partition("=")
        if not equals:
            raise ResultsError(f"condition {condition!r} is not of the form column=value")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ResultsError(f"no column {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        value = _value(name, wanted)
        rows = [row for row in rows if _value(name, _text(row.get(name))) == value]
    return rows


def columns_of(rows: Iterable[Row]) -> list[str]:
    """All columns of these rows in the order of the CSV: head, further measures by name, tail."""
    measures = {name for row in rows for name in row} - COLUMNS.keys()
    return [*HEAD_COLUMNS, *sorted(measures), *TAIL_COLUMNS]


def to_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a pandas data frame, columns in the order of the CSV."""
    import pandas as pd

    return pd.DataFrame(rows, columns=pd.Index(columns_of(rows)))


def write_csv(rows: Sequence[Row], path: str | Path) -> None:
    """Write the leaderboard as CSV, UTF-8, replaced whole or not at all. No value is an empty cell.

    A text that a spreadsheet would run as a formula gets a leading apostrophe; `read_csv` takes it away again.

    Raises:
        ResultsError: If the file cannot be written; its old content is intact.
    """
    columns = columns_of(rows)
    lines = [_line(columns), *(_line([_text(row.get(name)) for name in columns]) for row in rows)]
    write_atomic(Path(path), "".join(lines).encode("utf-8", "backslashreplace"))


def read_csv(path: str | Path) -> list[Row]:
    """Read what `write_csv` wrote; cells that are numbers come back as numbers, empty ones as None.

    Raises:
        ResultsError: If the file cannot be read or is not such a CSV.
    """
    path = Path(path)
    with explained("read", path, "correct the path"):
        data = path.read_bytes()
    try:
        header, *lines = csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True)
    except (ValueError, csv.Error) as error:
        raise ResultsError(f"{path} is not a CSV in UTF-8 with a header line ({error})") from error
    for line in lines:
        if len(line) != len(header):
            raise ResultsError(f"{path}: a row has {len(line)} cells where the header has {len(header)}: {line}")
    names = [_bare(name) for name in header]
    return [{name: _value(name, _bare(cell)) for name, cell in zip(names, line, strict=True)} for line in lines]


def _text(value: Cell) -> str:
    return "" if value is None else str(value)


def _value(column: str, text: str) -> Cell:
    """What a cell's text stands for in this column."""
    match = _NUMBER.fullmatch(text)
    if column in TEXT_COLUMNS or not match:
        return text or None
    return float(text) if match["fraction"] or match["exponent"] else int(text)


def _line(cells: Sequence[str]) -> str:
    """One line of CSV. The csv module quotes a carriage return in a cell only if its line end has one, as here."""
    line = io.StringIO(newline="")
    csv.writer(line).writerow([_guarded(cell) for cell in cells])
    return line.getvalue().removesuffix("\r\n") + "\n"


def _guarded(text: str) -> str:
    """`text` with an apostrophe in front if it looks like a formula, or like a text that has one in front already."""
    dangerous = text.startswith((*_FORMULA_STARTS, "'"))
    return f"'{text}" if dangerous and not _NUMBER.fullmatch(text) else text


def _bare(text: str) -> str:
    return text[1:] if text.startswith("'") else text


def row_as_json(row: Row, **facts: Any) -> str:
    """A row of the leaderboard as one line of strict JSON, further facts first; what is JSON in it is an object."""
    from editbench.json_lines import encode
    from editbench.results.leaderboard import columns_of

    values: dict[str, Any] = {name: row.get(name) for name in columns_of([row])}
    for name in ("method_config", "parts", "missing"):
        if isinstance(values[name], str):
            values[name] = json.loads(values[name])
    return encode({**facts, **values})

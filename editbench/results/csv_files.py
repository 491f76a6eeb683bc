"""The leaderboard as a CSV file, safe for spreadsheets, and back."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from editbench.files import ResultsError, explained, write_atomic
from editbench.results.columns import column, columns_of
from editbench.visible_text import spelt, unspelt, visible

if TYPE_CHECKING:
    from editbench.results.schema import Cell, Row


_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"-?[0-9]+(?P<fraction>\.[0-9]*)?(?P<exponent>[eE][+-]?[0-9]+)?")


def write_csv(rows: Sequence[Row], path: str | Path, columns: Sequence[str] | None = None) -> None:
    """Write the rows as CSV, UTF-8, replaced whole or not at all. An empty cell is no value.

    ``columns`` are all that the rows have, by default.

    A text that a spreadsheet would run as a formula, or that has what acts on a terminal, gets a leading apostrophe,
    and the latter is spelt out (:mod:`editbench.visible_text`); `read_csv` takes both away again. Other texts, JSON
    among them, stand as they are.
    """
    columns = columns_of(rows) if columns is None else columns
    lines = [_line(columns), *(_line([text_of(row.get(name)) for name in columns]) for row in rows)]
    write_atomic(Path(path), "".join(lines).encode("utf-8", "backslashreplace"))


def read_csv(path: str | Path) -> list[Row]:
    """Read a CSV of `write_csv`: numbers as numbers, empty cells as None."""
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
    return [{name: value_of(name, _bare(cell)) for name, cell in zip(names, line, strict=True)} for line in lines]


def text_of(value: Cell) -> str:
    """A cell as text."""
    return "" if value is None else str(value)


def value_of(name: str, text: str) -> Cell:
    """The value of a cell's text in this column."""
    match = _NUMBER.fullmatch(text)
    if column(name).digits is None or not match:
        return text or None
    return float(text) if match["fraction"] or match["exponent"] else int(text)


def _line(cells: Sequence[str]) -> str:
    """One line of CSV. The csv module quotes a carriage return in a cell only if its line end has one, as here."""
    line = io.StringIO(newline="")
    csv.writer(line).writerow([_guarded(cell) for cell in cells])
    return line.getvalue().removesuffix("\r\n") + "\n"


def _guarded(text: str) -> str:
    """`text` with an apostrophe in front, and spelt out, if it could act, or has an apostrophe in front already."""
    plain = text.replace("\r", "")  # a spreadsheet takes a carriage return for a line's end
    acts = text.startswith((*_FORMULA_STARTS, "'")) or visible(plain) != plain
    return "'" + "\r".join(map(spelt, text.split("\r"))) if acts and not _NUMBER.fullmatch(text) else text


def _bare(text: str) -> str:
    return unspelt(text[1:]) if text.startswith("'") else text

"""Raw rows with file and line: JSON, JSON Lines, CSV, Parquet, plain text, dataset folders and the hub.

Content tells a JSON array, JSON Lines and one object apart, which may hold the list of records. A bad record among good
ones is yielded as a :class:`RowError`, which the caller raises or skips. A broken file (cut off, wrong encoding, broken
syntax) always raises a :class:`~editbench.records.RecordError`, since the number of lost records is unknown.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from editbench.datasets.encodings import decode
from editbench.datasets.hub import HUB_PREFIX, hub_hint, read_table
from editbench.datasets.rows import IDS, MakeRow, Row, RowError, make_row, make_text_row
from editbench.datasets.values import Decoder
from editbench.records import RecordError

if TYPE_CHECKING:
    from _csv import Reader

PARQUET, TABLES = ".parquet", {".csv": ",", ".tsv": "\t"}
READABLE = (PARQUET, *TABLES, ".json", ".jsonl")
WRAPPERS = ("data", "records", "rows", "examples", "edits", "items", "instances", "samples", "train", "test")
"""Keys of one object that hold a list of records, among others that do not."""
RECORD_KEYS = {"prompt", "question", "src", "update", "text", "Q", "requested_rewrite", "gpt3_sentences"}
"""Fields by which records are known."""
_SPACE = re.compile(r"[ \t\r\n]*")  # white space of JSON; str.isspace accepts more


def read_rows(path: str | Path, encoding: str | None = None) -> Iterator[Row | RowError]:
    """Rows, and errors in the place of bad rows, in order; paths as in :func:`editbench.datasets.load`."""
    if str(path).startswith(HUB_PREFIX):
        return read_table(str(path))
    file = Path(path).expanduser()
    if file.is_dir():
        found = [one for one in sorted(file.iterdir()) if one.suffix.lower() in READABLE and one.name[0] != "."]
        if len(found) != 1:
            return read_table(str(file))
        (file,) = found
    kind = file.suffix.lower()
    if kind == PARQUET:
        return read_parquet(file)
    return read_csv(file, TABLES[kind], encoding) if kind in TABLES else read_json(file, encoding=encoding)


def read_csv(file: Path, delimiter: str = ",", encoding: str | None = None) -> Iterator[Row | RowError]:
    """Rows of a table with names in its first line; empty cells are absent fields.

    A first line without the delimiter may have semicolons or tabs, as spreadsheets write them.
    """
    text = _read(file, encoding)
    head = text.partition("\n")[0]
    delimiter = next((mark for mark in (delimiter, ";", "\t") if mark in head), delimiter)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    csv.field_size_limit(1 << 30)
    try:
        names = [name.strip() for name in next(lines, [])]
        if len(names) < 2 or not all(names) or len({*names}) < len(names):
            reason = f"the first line must name the columns, each by a name of its own, found {names}"
            is_index = len(names) > 2 and names[0] == "" and all(names[1:])
            remedy = "the first column may be pandas' index: write with to_csv(…, index=False)" if is_index else ""
            raise RowError(f"{file}:1", f"{reason}; {remedy or 'give a table with prompt, target, …'}")
        numbered = _with_first_lines(lines, lines.line_num + 1)
        for index, (line, cells) in enumerate((line, cells) for line, cells in numbered if cells):
            where = f"{file}:{line}"
            if len(cells) > len(names):
                reason = f"{len(cells)} cells for {len(names)} columns; put cells with a {delimiter!r} in quotes"
                yield RowError(where, reason)
                continue
            yield make_row(
                where, index, {name: cell if cell.strip() else None for name, cell in zip(names, cells, strict=False)}
            )
    except csv.Error as error:
        raise RowError(f"{file}:{lines.line_num}", f"not a table ({error}); correct it here") from error


def _with_first_lines(lines: Reader, line: int) -> Iterator[tuple[int, list[str]]]:
    """The rows that are left, each with the line where it begins; that of the first is ``line``."""
    for cells in lines:
        yield line, cells
        line = lines.line_num + 1


def read_parquet(file: Path) -> Iterator[Row | RowError]:
    """Rows of a Parquet file. A row's line is its number from 1."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    if not file.is_file():
        raise RecordError(_no_such_file(file))
    try:
        with ParquetFile(file) as table:
            rows = [row for batch in table.iter_batches() for row in batch.to_pylist()]
    except (pyarrow.ArrowException, OSError) as error:
        raise RecordError(f"{file}: cannot be read as Parquet: {error}; get it again") from error
    for index, fields in enumerate(rows):
        yield make_row(f"{file}:{index + 1}", index, fields)


def read_texts(path: str | Path, encoding: str | None = None) -> Iterator[Row | RowError]:
    """Like :func:`read_rows`, of rows with the field "text"; a text alone is such a row.

    So are the lines of a ``.txt`` file that are not blank. Blank rows of tables are left out; the hub's are streamed.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() != ".txt":
        is_hub = str(path).startswith(HUB_PREFIX)
        if not is_hub and not file.is_dir() and file.suffix.lower() not in (PARQUET, *TABLES):
            yield from read_json(file, make_text_row, encoding)
            return
        for row in read_table(str(path), streaming=True) if is_hub else read_rows(path, encoding):
            text = row.fields.get("text") if isinstance(row, Row) else None
            if not isinstance(text, str) or text.strip():
                yield row
        return
    lines = ((number, line.rstrip("\r")) for number, line in enumerate(_read(file, encoding).split("\n"), start=1))
    for index, (number, line) in enumerate((number, line) for number, line in lines if line.strip()):
        yield make_row(f"{file}:{number}", index, {"text": line})


def read_json(file: Path, make: MakeRow | None = None, encoding: str | None = None) -> Iterator[Row | RowError]:
    """Rows of JSON or JSON Lines; ``make`` makes them of place, index and value (:func:`make_row`).

    An object that is the whole file is one record, or holds the list of them under some key (:data:`WRAPPERS` beside
    others), an object of them by their ids, or their columns.
    """
    make = make or make_row
    text = _read(file, encoding)
    start = _skip_space(text, 0)
    opening = text[start : start + 1]
    if opening not in ("[", "{") and not (opening == '"' and make is make_text_row):
        line = text.count("\n", 0, start) + 1
        reason = f"expected a JSON array or JSON Lines of records, found {text[start : start + 40]!r}"
        raise RowError(f"{file}:{line}", f"{reason}; give a .json, .jsonl, .csv or .parquet file of records")
    if opening == "[":
        yield from _scan_array(file, text, start, make)
    elif opening == "{" and (members := _members(file, text, start)) is not None:
        yield from _scan_object(file, text, start, members, make)
    else:
        yield from _scan_lines(file, text, make)


class Member(NamedTuple):
    """A value of an object."""

    at: int  # index at which it begins
    value: Any
    repeated: str | None  # a key that it, or an object inside it, has twice


Members = dict[str, Member]


def _made(make: MakeRow, where: str, index: int, value: Any, repeated: str | None) -> Row | RowError:
    """The row of a value, or an error if a key is twice in it, of which only one could be read."""
    row = make(where, index, value)
    if repeated is None or isinstance(row, RowError):
        return row
    return row.error(repeated, "stands twice in the record; keep one of them")


def _members(file: Path, text: str, start: int, inside: bool = False) -> Members | None:
    """Members of the object that is the whole file, or ``inside`` another; None of JSON Lines."""
    decoder, found = Decoder(), Members()
    twice: tuple[str, int] | None = None  # a key of the object itself, and where its second value is
    newline = text.find("\n", start)
    second = _skip_space(text, newline + 1) if newline >= 0 else len(text)
    position = _skip_space(text, start + 1)
    try:
        while text[position : position + 1] != "}":
            key, position = decoder.raw_decode(text, position)
            position = _skip_space(text, _skip_space(text, position) + 1)  # behind the colon
            value, end = decoder.raw_decode(text, position)
            twice = (str(key), position) if str(key) in found else twice
            found[str(key)] = Member(position, value, decoder.repeated())
            position = _skip_space(text, end)
            if text[position : position + 1] == ",":
                position = _skip_space(text, position + 1)
            elif text[position : position + 1] != "}":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
    except (json.JSONDecodeError, RecursionError) as error:
        at = error.pos if isinstance(error, json.JSONDecodeError) else position
        line = text.count("\n", 0, at) + 1
        if line == text.count("\n", 0, start) + 1 or text[second : second + 1] == "{":
            return None
        cut = "" if text.rstrip().endswith("}") else "the file is cut off, or "
        raise RowError(f"{file}:{line}", f"{cut}the JSON is broken ({_cause(error)}); correct it here") from None
    after = _skip_space(text, position + 1)
    if not inside and after < len(text):
        if "\n" not in text[start:position]:
            return None
        reason = f"another value, {text[after : after + 20]!r}, stands behind the first object"
        remedy = "put the records in a list, [{…}, {…}], or write each in one line (JSON Lines)"
        raise RowError(f"{file}:{text.count(chr(10), 0, after) + 1}", f"{reason}; {remedy}")
    if twice is not None:
        line = text.count("\n", 0, twice[1]) + 1
        raise RowError(f"{file}:{line}", f"the key {twice[0]!r} stands twice in the object; keep one of them")
    return found


def _scan_object(file: Path, text: str, start: int, members: Members, make: MakeRow) -> Iterator[Row | RowError]:
    def place(at: int) -> str:
        return f"{file}:{text.count(chr(10), 0, at) + 1}"

    values = {key: member.value for key, member in members.items()}
    repeated = next((member.repeated for member in members.values() if member.repeated), None)
    lists = [key for key, value in values.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    lists = [key for key in lists if key in WRAPPERS or (not _is_record(values) and _is_record(values[key][0]))]
    inner = [key for key in WRAPPERS if isinstance(values.get(key), dict) and not _is_record(values)]
    empty = [key for key in WRAPPERS if values.get(key) == [] and not _is_record(values)]
    columns = _columns(values) if _is_record(values) else None
    if len(lists) > 1:
        reason = f"it holds several lists, {', '.join(lists)}; give one of them, in a file of its own"
        raise RowError(place(start), reason)
    if lists:
        yield from _scan_array(file, text, members[lists[0]].at, make, inside=True)
    elif columns is not None:
        for index, cells in enumerate(zip(*columns, strict=True)):
            yield _made(make, place(start), index, dict(zip(values, cells, strict=True)), repeated)
    elif values and all(isinstance(value, dict) and _is_record(value) for value in values.values()):
        for index, (key, (at, value, twice)) in enumerate(members.items()):
            yield _made(make, place(at), index, value if {*value} & {*IDS} else {"id": key, **value}, twice)
    elif len(inner) == 1 and (within := _members(file, text, members[inner[0]].at, inside=True)) is not None:
        yield from _scan_object(file, text, members[inner[0]].at, within, make)
    elif empty:
        raise RowError(place(members[empty[0]].at), f"the list {empty[0]!r} is empty; give a file with records")
    else:
        yield _made(make, place(start), 0, values, repeated)


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and bool({*value} & RECORD_KEYS)


def _columns(values: dict[str, Any]) -> list[list[Any]] | None:
    """A table by columns, as pandas writes it: lists, or objects with the rows' numbers; None of a record."""
    cells = [list(value.values()) if isinstance(value, dict) else value for value in values.values()]
    numbered = all(not isinstance(value, dict) or all(map(str.isdigit, value)) for value in values.values())
    same = all(isinstance(one, list) for one in cells) and len({*map(len, cells)}) == 1
    return cells if same and numbered else None


def _scan_lines(file: Path, text: str, make: MakeRow) -> Iterator[Row | RowError]:
    numbered = ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip(" \t\r"))
    for index, (number, line) in enumerate(numbered):
        where, decoder = f"{file}:{number}", Decoder()
        try:
            value = decoder.decode(line)
        except (ValueError, RecursionError) as error:
            yield RowError(where, f"not a JSON record ({_cause(error)}); JSON Lines has one whole record a line")
        else:
            yield _made(make, where, index, value, decoder.repeated())


def _scan_array(file: Path, text: str, start: int, make: MakeRow, inside: bool = False) -> Iterator[Row | RowError]:
    """Rows of the array that begins at ``start``: the whole file, or ``inside`` an object."""
    decoder = Decoder()
    line, counted = 1, 0  # `line` is the line of the character at `counted`
    position = _skip_space(text, start + 1)
    if text[position : position + 1] == "]":
        raise RowError(f"{file}:1", "the file holds an empty list; give a file with records")
    for index in count():
        line += text.count("\n", counted, position)
        counted = position
        where = f"{file}:{line}"
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise _broken(where, text, index, _cause(error)) from None
        yield _made(make, where, index, value, decoder.repeated())
        position = _skip_space(text, end)
        mark = text[position : position + 1]
        if mark == "]":
            break
        if mark != ",":
            raise _broken(where, text, index + 1, "no ',' or ']' after the record that starts here")
        position = _skip_space(text, position + 1)
    tail = _skip_space(text, position + 1)
    if tail < len(text) and not inside:
        line += text.count("\n", counted, tail)
        raise RowError(f"{file}:{line}", f"text after the end of the list: {text[tail : tail + 40]!r}; take it out")


def _broken(where: str, text: str, whole: int, cause: str) -> RowError:
    cut = not text.rstrip().endswith("]")
    state = "the file is cut off; get it again" if cut else "the JSON is broken; correct it here"
    return RowError(where, f"{state} ({cause}); {whole} whole records stand before this place")


def _cause(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, at line {error.lineno}, column {error.colno}" if error.lineno > 1 else error.msg
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None  # the pattern matches the empty string
    return match.end()


def _read(file: Path, encoding: str | None) -> str:
    """The file's text; UTF-8, with or without a byte order mark, unless another encoding is named."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise RecordError(_no_such_file(file)) from None
    except OSError as error:
        raise RecordError(f"{file}: cannot be read: {error.strerror or error}") from error
    if not data.strip():
        raise RowError(f"{file}:1", "the file is empty; get it again, or give another")
    return decode(file, data, encoding)


def _no_such_file(file: Path) -> str:
    folder = file.parent
    if (hint := hub_hint(str(file))) is not None:
        return f"{file}: no such file; {hint}"
    if not folder.is_dir():
        return f"{file}: no such file, and no such folder {folder}; correct the path"
    near = difflib.get_close_matches(file.name, sorted(entry.name for entry in folder.iterdir()), n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "correct the path"
    return f"{file}: no such file in {folder.resolve()}; {hint}"

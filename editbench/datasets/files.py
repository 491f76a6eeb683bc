"""Raw rows with file and line: JSON arrays, JSON Lines, plain text, dataset folders and the hub.

Content tells a JSON array from JSON Lines. A bad record among good ones is yielded as a :class:`RowError`, which the
caller raises or skips. A broken file (cut off, wrong encoding, an array with broken syntax) always raises a
:class:`~editbench.records.RecordError`, since the number of lost records is unknown.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from editbench.records import RecordError

PARQUET = ".parquet"
_SPACE = re.compile(r"[ \t\r\n]*")  # white space of JSON; str.isspace accepts more


def read_rows(path: str | Path) -> Iterator[Row | RowError]:
    """Rows, and errors in the place of bad rows, in order; paths as in :func:`editbench.datasets.load`."""
    if str(path).startswith(HUB_PREFIX):
        return read_table(str(path))
    file = Path(path).expanduser()
    if file.suffix.lower() == PARQUET:
        return read_parquet(file)
    return read_table(str(file)) if file.is_dir() else read_json(file)


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


def read_texts(path: str | Path) -> Iterator[Row | RowError]:
    """Like :func:`read_rows`, of rows with the field "text"; a text alone is such a row.

    So are the lines of a ``.txt`` file that are not blank. Blank rows of tables are left out; the hub's are streamed.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() != ".txt":
        is_hub = str(path).startswith(HUB_PREFIX)
        if not is_hub and not file.is_dir() and file.suffix.lower() != PARQUET:
            yield from read_json(file, make_text_row)
            return
        for row in read_table(str(path), streaming=True) if is_hub else read_rows(path):
            text = row.fields.get("text") if isinstance(row, Row) else None
            if not isinstance(text, str) or text.strip():
                yield row
        return
    lines = ((number, line.rstrip("\r")) for number, line in enumerate(_decode(file).split("\n"), start=1))
    for index, (number, line) in enumerate((number, line) for number, line in lines if line.strip()):
        yield make_row(f"{file}:{number}", index, {"text": line})


def read_json(file: Path, make: MakeRow | None = None) -> Iterator[Row | RowError]:
    """Rows of a JSON array or of JSON Lines; ``make`` makes them of place, index and value (:func:`make_row`)."""
    make = make or make_row
    text = _decode(file)
    start = _skip_space(text, 0)
    opening = text[start : start + 1]
    if opening not in ("[", "{") and not (opening == '"' and make is make_text_row):
        line = text.count("\n", 0, start) + 1
        reason = f"expected a JSON array or JSON Lines of records, found {text[start : start + 40]!r}"
        raise RowError(f"{file}:{line}", f"{reason}; give a .json or .jsonl file of records")
    yield from _scan_array(file, text, start, make) if opening == "[" else _scan_lines(file, text, make)


def _scan_lines(file: Path, text: str, make: MakeRow) -> Iterator[Row | RowError]:
    numbered = ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip(" \t\r"))
    for index, (number, line) in enumerate(numbered):
        where = f"{file}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield RowError(where, f"not a JSON record ({_cause(error)}); JSON Lines has one whole record a line")
        else:
            yield make(where, index, value)


def _scan_array(file: Path, text: str, start: int, make: MakeRow) -> Iterator[Row | RowError]:
    decoder = json.JSONDecoder()
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
        yield make(where, index, value)
        position = _skip_space(text, end)
        mark = text[position : position + 1]
        if mark == "]":
            break
        if mark != ",":
            raise _broken(where, text, index + 1, "no ',' or ']' after the record that starts here")
        position = _skip_space(text, position + 1)
    tail = _skip_space(text, position + 1)
    if tail < len(text):
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


def _decode(file: Path) -> str:
    """The file's text; UTF-8, with or without a byte order mark."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise RecordError(_no_such_file(file)) from None
    except OSError as error:
        raise RecordError(f"{file}: cannot be read: {error.strerror or error}") from error
    if not data.strip():
        raise RowError(f"{file}:1", "the file is empty; get it again, or give another")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        remedy = "save the file as UTF-8 (iconv -f LATIN1 -t UTF-8), and unpack it first if it is an archive"
        raise RowError(f"{file}:{line}", f"byte 0x{byte:02x} is not UTF-8 ({error.reason}); {remedy}") from None


def _no_such_file(file: Path) -> str:
    folder = file.parent
    if not folder.is_dir():
        return f"{file}: no such file, and no such folder {folder}; correct the path"
    near = difflib.get_close_matches(file.name, sorted(entry.name for entry in folder.iterdir()), n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "correct the path"
    return f"{file}: no such file in {folder.resolve()}; {hint}"


class RowError(RecordError):
    """A raw record that cannot be used, with its place ("FILE:LINE") and the reason."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where, self.reason = where, reason


@dataclass(frozen=True, slots=True)
class Row:
    """A raw record. A field with the value null counts as absent: tables fill uneven records with nulls."""

    where: str  # "FILE:LINE" of the record's first line
    id: str  # the record's own id, or its index in the file
    fields: Mapping[str, object]
    path: str = ""  # prefix of field names in errors ("requested_rewrite." inside a nested object)

    def error(self, name: str, reason: str) -> RowError:
        """An error about field ``name``."""
        return RowError(self.where, f"record {self.id!r}, field {self.path + name!r}: {reason}")

    def has(self, name: str) -> bool:
        """Whether the field is present and not null."""
        return self.fields.get(name) is not None

    def text(self, name: str) -> str:
        """The field as non-empty text of valid Unicode."""
        return self._text(name, self._value(name))

    def label(self, name: str) -> str | None:
        """The field as a probe's answer: text, or None if it is empty, as in some published records."""
        value = self._value(name)
        return None if isinstance(value, str) and not value.strip() else self._text(name, value)

    def texts(self, name: str) -> list[str]:
        """The field as a list of non-empty texts; the list may be empty."""
        return [self._text(f"{name}[{i}]", item) for i, item in enumerate(self._list(name))]

    def child(self, name: str) -> Row:
        """The field as a nested object."""
        return self._child(name, self._value(name))

    def children(self, name: str) -> list[Row]:
        """The field as a list of nested objects; an absent field is an empty list."""
        return [self._child(f"{name}[{i}]", item) for i, item in enumerate(self._list(name))] if self.has(name) else []

    def _value(self, name: str) -> object:
        if not self.has(name):
            raise self.error(name, f"is missing; the record has {', '.join(self.fields) or 'no fields'}")
        return self.fields[name]

    def _list(self, name: str) -> list[object]:
        value = self._value(name)
        if not isinstance(value, list):
            raise self.error(name, f"must be a list, found {type_name(value)}")
        return value

    def _text(self, name: str, value: object) -> str:
        if not isinstance(value, str):
            raise self.error(name, f"must be text, found {type_name(value)}")
        if not value.strip():
            raise self.error(name, "is empty")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise self.error(name, f"holds half of a surrogate pair, which is no character: {value!r}") from None
        return value

    def _child(self, name: str, value: object) -> Row:
        if not isinstance(value, dict):
            raise self.error(name, f"must be an object with fields, found {type_name(value)}")
        return Row(self.where, self.id, value, f"{self.path}{name}.")


def make_row(where: str, index: int, value: object) -> Row | RowError:
    """The row of parsed JSON, or an error if it is no record or its id no id; without an id the index stands for it."""
    if not isinstance(value, dict):
        return RowError(where, f"a record must be an object with fields, found {type_name(value)}")
    name = next((name for name in ("case_id", "id") if value.get(name) is not None), None)
    own = index if name is None else value[name]
    if name and (isinstance(own, bool) or not isinstance(own, (int, str)) or not str(own).strip()):
        return Row(where, str(index), value).error(name, f"must be a number or text, found {own!r}")
    return Row(where, str(own).strip(), value)


def make_text_row(where: str, index: int, value: object) -> Row | RowError:
    """The row of a plain text, or of an object with the field "text"."""
    return make_row(where, index, {"text": value} if isinstance(value, str) else value)


def type_name(value: object) -> str:
    """Name of the value's JSON type."""
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return "an object" if isinstance(value, dict) else names.get(type(value), type(value).__name__)


HUB_PREFIX = "hub:"
MakeRow = Callable[[str, int, object], Row | RowError]

_ADDRESS = re.compile(r"(?P<name>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<split>[^:@]+))?")


def read_table(path: str, *, streaming: bool = False) -> Iterator[Row | RowError]:
    """Rows of one split of a folder, or of "hub:NAME[:CONFIG][@SPLIT]", where NAME may be a folder.

    Without a split in the address, the dataset must have only one. A row's line is its number from 1. ``streaming``
    reads rows from the hub as they are asked for, instead of all before the first.
    """
    match = _ADDRESS.fullmatch(path.removeprefix(HUB_PREFIX)) if path.startswith(HUB_PREFIX) else None
    if match is None and path.startswith(HUB_PREFIX):
        raise RecordError(f"{path!r} is no hub address; write hub:NAME[:CONFIG][@SPLIT]")
    name, config, split = match.group("name", "config", "split") if match else (path, None, None)
    splits = _load(path, name, config, **({"streaming": True} if streaming else {}))
    if split is None and len(splits) == 1:
        (split,) = splits
    if split not in splits:
        found = f"no split {split!r}" if split else "several splits"
        address = f"hub:{name}{f':{config}' if config else ''}@SPLIT"
        raise RecordError(f"{path}: {found}; give one of {', '.join(splits)} as {address}")
    for index, fields in enumerate(splits[split]):
        yield make_row(f"{path}:{index + 1}", index, fields)


def _load(path: str, name: str, config: str | None, **options: bool) -> Any:
    """All splits of a dataset; code in the dataset is never run."""
    import datasets

    try:
        return datasets.load_dataset(name, config, **options)
    except ConnectionError as error:
        remedy = "download the file where there is a network, and give its path instead"
        raise RecordError(f"{path}: the hub cannot be reached (offline?): {error}; {remedy}") from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        remedy = "check name and config, or give a .json or .jsonl file"
        raise RecordError(f"{path}: datasets cannot load it: {error}; {remedy}") from error

"""Raw files to rows, each with the line it starts on: JSON arrays, JSON Lines, plain text.

Whether a file is an array or JSON Lines is read from its content. A bad record among good ones is yielded as a
:class:`RowError`, so that the caller may raise or skip it. A broken file (cut off, wrong encoding, an array whose
syntax breaks) always raises: how much of it is lost cannot be known.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from editbench.datasets.hub import HUB_PREFIX, read_table
from editbench.datasets.rows import Row, RowError, make_row
from editbench.records import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPACE = re.compile(r"[ \t\r\n]*")  # what JSON calls white space; str.isspace takes more


def read_rows(path: str | Path) -> Iterator[Row | RowError]:
    """The rows of a JSON or JSON Lines file, of a dataset folder, or of a dataset on the hub, in order.

    Args:
        path: A file; a folder that ``datasets.load_dataset`` can read; or "hub:NAME[:CONFIG][@SPLIT]".

    Yields:
        Rows, and errors in the place of rows that are none.

    Raises:
        RecordError: If there is no such file, or the file as a whole cannot be read.
    """
    name = str(path)
    file = Path(name).expanduser()
    if name.startswith(HUB_PREFIX):
        return read_table(name)
    return read_table(str(file)) if file.is_dir() else read_json(file)


def read_texts(path: str | Path) -> Iterator[Row | RowError]:
    """Like :func:`read_rows`; the lines of a ``.txt`` file become rows with the field "text" (blank lines: none).

    Raises:
        RecordError: As :func:`read_rows`.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() != ".txt":
        yield from read_rows(path)
        return
    lines = ((number, line.rstrip("\r")) for number, line in enumerate(_decode(file).split("\n"), start=1))
    for index, (number, line) in enumerate((number, line) for number, line in lines if line.strip()):
        yield make_row(f"{file}:{number}", index, {"text": line})


def read_json(file: Path) -> Iterator[Row | RowError]:
    """The rows of a JSON array or of JSON Lines.

    Raises:
        RecordError: If the file is missing, is not UTF-8, is neither of the two, or is cut off.
    """
    text = _decode(file)
    start = _skip_space(text, 0)
    opening = text[start : start + 1]
    if opening not in ("[", "{"):
        line = text.count("\n", 0, start) + 1
        raise RowError(
            f"{file}:{line}",
            f"expected a JSON array or JSON Lines of records, found {text[start : start + 40]!r}; "
            "give a .json or .jsonl file of records",
        )
    yield from _scan_array(file, text, start) if opening == "[" else _scan_lines(file, text)


def _scan_lines(file: Path, text: str) -> Iterator[Row | RowError]:
    numbered = ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip(" \t\r"))
    for index, (number, line) in enumerate(numbered):
        where = f"{file}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield RowError(where, f"not a JSON record ({_cause(error)}); JSON Lines has one whole record a line")
        else:
            yield make_row(where, index, value)


def _scan_array(file: Path, text: str, start: int) -> Iterator[Row | RowError]:
    decoder = json.JSONDecoder()
    line, counted = 1, 0  # `line` is the line of the character at `counted`
    position = _skip_space(text, start + 1)
    if text[position : position + 1] == "]":
        raise RowError(f"{file}:1", "the file holds an empty list; give a file with records")
    index = 0
    while True:
        line += text.count("\n", counted, position)
        counted = position
        where = f"{file}:{line}"
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise _broken(where, text, index, _cause(error)) from None
        yield make_row(where, index, value)
        index += 1
        position = _skip_space(text, end)
        mark = text[position : position + 1]
        if mark == "]":
            break
        if mark != ",":
            raise _broken(where, text, index, "no ',' or ']' after the record that starts here")
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
        raise RowError(
            f"{file}:{line}",
            f"byte 0x{byte:02x} is not UTF-8 ({error.reason}); save the file as UTF-8 "
            "(iconv -f LATIN1 -t UTF-8), and unpack it first if it is an archive",
        ) from None


def _no_such_file(file: Path) -> str:
    folder = file.parent
    if not folder.is_dir():
        return f"{file}: no such file, and no such folder {folder}; correct the path"
    near = difflib.get_close_matches(file.name, sorted(entry.name for entry in folder.iterdir()), n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "correct the path"
    return f"{file}: no such file in {folder.resolve()}; {hint}"

"""Rows as strict JSON, one a line: encoding, appending, reading.

Strict JSON has no NaN and no infinity: such a value becomes null, and its row names it under "nonfinite", by metric for
a score ("rewrite.nll"), else by its dotted path ("losses.3"). All is ASCII, so that half a surrogate pair survives.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NoReturn

from editbench.files import DamagedFile, ResultsError, explained, read_bytes


def encode(row: Mapping[str, Any], indent: int | None = None) -> str:
    """One row as strict JSON, without a final newline; a decoded row gives the same text again."""
    nonfinite: list[str] = []
    plain = {_key(key, "row"): _plain(value, key, nonfinite) for key, value in row.items()}
    if nonfinite:
        plain["nonfinite"] = sorted({*nonfinite, *plain.get("nonfinite", ())})
    return _ENCODER.encode(plain) if indent is None else json.dumps(plain, allow_nan=False, indent=indent)


def decode(text: bytes) -> dict[str, Any]:
    """The row of a line; a ValueError if it is not one strict JSON object in UTF-8, of finite numbers."""
    row = _DECODER.decode(text.decode("utf-8"))
    if not isinstance(row, dict):
        raise ValueError(f"a JSON object is wanted, not {type(row).__name__}")
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH or _LARGE.search(text):
        _check_tree(row)
    return row


def _check_tree(tree: Any) -> None:
    """A ValueError for a value nested too deeply, or a number that no float can hold."""
    level, depth = [tree], 0
    while level:
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        for value in level:
            if type(value) in (int, float) and not abs(value) <= sys.float_info.max:
                raise ValueError("it holds a number beyond the range of floats")
        inner = (value.values() if isinstance(value, dict) else value for value in level if isinstance(value, _TREES))
        level, depth = [value for values in inner for value in values], depth + 1


def _plain(value: Any, where: str, nonfinite: list[str]) -> Any:
    """A value in JSON's own types; adds the places of NaN and infinity to `nonfinite`."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):  # numpy's scalars register themselves as these
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if math.isfinite(number):
            return number
        nonfinite.append(where.removeprefix("scores."))
        return None
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(item, f"{where}.{key}", nonfinite) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}.{index}", nonfinite) for index, item in enumerate(value)]
    raise ResultsError(f"{where} is a {type(value).__name__}; store numbers, strings, lists and dicts only")


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise ResultsError(f"{where} has the key {key!r}; keys must be strings")
    return key


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not strict JSON")


_ENCODER = json.JSONEncoder(allow_nan=False)  # made once: json makes another for each call that has options
MAX_DEPTH = 64  # of objects and lists in each other
_TREES = (dict, list)
_LARGE = re.compile(rb"[0-9]{300}|[eE]\+?[0-9]{3}")  # what a number beyond the floats must have
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def append_lines(path: Path, lines: str) -> None:
    """Append whole lines to a file in one write; after a failure the file is as it was."""
    data = lines.encode("utf-8")
    with explained("append to", path, "free some space or correct its permissions, then resume the run"):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, data) != len(data):
                    raise OSError(errno.ENOSPC, "only part of it could be written")
                os.fsync(descriptor)
            except BaseException:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Rows of all whole lines, and the size of a torn last line (of a crash, or while it is written)."""
    lines, torn = split_lines(path)
    return decode_lines(lines, path), torn


def split_lines(path: Path) -> tuple[list[bytes], int]:
    """All whole lines as bytes, and the size of a torn last line."""
    *lines, torn = read_bytes(path).split(b"\n")
    return lines, len(torn)


def decode_lines(lines: Sequence[bytes], path: Path) -> list[dict[str, Any]]:
    """The rows of a file's lines; a `DamagedFile` names file and line."""
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(decode(line))
        except (ValueError, RecursionError) as error:
            raise DamagedFile(
                f"{path}, line {number}: damaged ({error}); restore the file from a copy, or delete the run"
            ) from error
    return rows


def cut_to(path: Path, size: int) -> None:
    """Cut a file to this size."""
    with explained("repair", path, "correct its permissions"), open(path, "r+b") as file:
        if os.fstat(file.fileno()).st_size > size:
            file.truncate(size)
            os.fsync(file.fileno())

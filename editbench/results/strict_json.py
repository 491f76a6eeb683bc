"""Rows to strict JSON and back.

JSON knows no NaN and no infinity, and many readers refuse Python's spelling of them. Here such a value becomes null,
and the row says so under "nonfinite": the measure's name for a score ("rewrite.nll"), the dotted path for anything else
("losses.3"). Characters outside ASCII are written as escapes, so that any string survives, half a surrogate pair too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, NoReturn

from editbench.results.schema import ResultsError


def encode(row: Mapping[str, Any], indent: int | None = None) -> str:
    """One row as strict JSON, without a final newline. Encoding what was decoded gives the same text again.

    Raises:
        ResultsError: If a value is not plain data (a tensor, a path, a key that is not a string); says which.
    """
    nonfinite: list[str] = []
    plain = {_key(key, "row"): _plain(value, key, nonfinite) for key, value in row.items()}
    if nonfinite:
        plain["nonfinite"] = sorted({*nonfinite, *plain.get("nonfinite", ())})
    return json.dumps(plain, allow_nan=False, indent=indent)


def decode(text: bytes) -> dict[str, Any]:
    """The row that `text` holds.

    Raises:
        ValueError: If the text is not one strict JSON object in UTF-8.
    """
    row = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    if not isinstance(row, dict):
        raise ValueError(f"a JSON object is wanted, not {type(row).__name__}")
    return row


def _plain(value: Any, where: str, nonfinite: list[str]) -> Any:
    """`value` as JSON's own types; the places of NaN and infinity are added to `nonfinite`."""
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

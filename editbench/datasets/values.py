"""Values written as text: JSON, and lists and dictionaries as pandas and NumPy write them into a cell."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from typing import Any


class Decoder(json.JSONDecoder):
    """Reads JSON, and notes the keys that an object has twice, of which Python would keep the last alone."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=self._object)
        self._repeated: list[str] = []

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            self._repeated.append(next(key for key in keys if keys.count(key) > 1))
        return found

    def repeated(self) -> str | None:
        """A key that an object had twice since the last call, or None."""
        found, self._repeated = self._repeated, []
        return found[0] if found else None


def unwritten(value: object) -> object:
    """The list or dictionary that a text holds, in JSON or as pandas or NumPy writes it; any other value as it is.

    A ValueError says why a text that begins like a list of dictionaries, or like a dictionary, is none.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not text.startswith(("[", "{")):
        return value
    decoder = Decoder()
    try:
        found = decoder.decode(text)
    except (ValueError, RecursionError):
        found = _python(text)
    else:
        if (key := decoder.repeated()) is not None:
            raise ValueError(f"has the key {key!r} twice in {_short(text)}; keep one of them")
    if found is None and "".join(text[:20].split()).startswith(("[{'", '[{"', "{'", '{"')):
        raise ValueError(f"looks like objects and cannot be read as such: {_short(text)}; write it in JSON")
    return value if found is None else found


def _short(text: str) -> str:
    return repr(text if len(text) < 60 else f"{text[:60]}…")


_ENDS = (tokenize.STRING, tokenize.NUMBER)


def _python(text: str) -> Any:
    """A list or dictionary of plain values in Python's spelling, ``[{'a': 1}, "b"]``; None of anything else.

    NumPy puts no comma between values, ``['a' 'b']``, where Python would join the texts; pandas writes nan for nothing.
    """
    words: list[str] = []
    ended = False  # whether the last token ended a value
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            begins = token.type in _ENDS or token.string in ("[", "{")
            words += ["," if ended and begins else "", "None" if token.string == "nan" else token.string]
            ended = token.type in _ENDS or token.string in ("]", "}") or (ended and not token.string.strip())
        return _plain(ast.literal_eval(" ".join(words).strip()))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
        return None


def _plain(value: object) -> object:
    """The value with lists for tuples; a ValueError of what JSON has not."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise ValueError(type(value).__name__)

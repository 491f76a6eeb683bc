"""The text of a file's bytes: UTF-8, or the encoding that the user names; of anything else the likely encoding."""

from __future__ import annotations

import codecs
import logging
import unicodedata
from pathlib import Path

import regex

from editbench.datasets.rows import RowError

_log = logging.getLogger(__name__)
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd", b"7z\xbc\xaf")
_BINARY = {
    b"PAR1": "a Parquet file: give it a name that ends in .parquet",
    b"ARROW1": "an Arrow file: save it as Parquet",
    b"\x89HDF": "an HDF5 file: save its records as JSON, CSV or Parquet",
    b"\x93NUMPY": "an array of NumPy: save its records as JSON, CSV or Parquet",
    b"SQLite format 3": "a database of SQLite: save its records as JSON, CSV or Parquet",
    b"%PDF-": "a PDF: give the records themselves",
    **{bytes([0x80, protocol]): "a pickle, which is never read: save its records as JSON" for protocol in range(2, 6)},
}
"""What files are that no encoding makes a text of, by their first bytes."""
_SPREADSHEETS = (".xlsx", ".xls", ".ods")
_SINGLE = ("cp1252", "cp1251", "koi8_r", "cp1250", "cp1253", "cp1255", "cp1256", "iso8859_9", "mac_roman")
_NO_TEXT = ("Cc", "Cn", "Co")  # categories of characters that no text has
_EAST_ASIAN = {  # these order characters by how common they are; first bytes of the common ones
    "euc_kr": range(0xB0, 0xC9),
    "gbk": range(0xB0, 0xD8),
    "big5": range(0xA4, 0xC7),
    "euc_jp": range(0xA4, 0xD0),
    "shift_jis": range(0x82, 0x98),
    "gb18030": range(0xB0, 0xD8),  # gbk with more characters, and last: what is gbk, too, is called gbk
}


def decode(file: Path, data: bytes, encoding: str | None = None) -> str:
    """The text of a file, without a byte order mark; None is UTF-8.

    A :class:`RowError` names the place, and the encoding that the bytes are likely to be in. A NUL character raises it,
    too: no text has one, and English in UTF-16 is UTF-8 with one beside each letter.
    """
    given = "UTF-8" if encoding is None else encoding
    try:
        text = data.decode(encoding or "utf-8-sig").removeprefix("\ufeff")
    except LookupError:
        raise ValueError(f"dataset.encoding={encoding}: Python knows no such encoding") from None
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        line = data.count(b"\n", 0, start) + 1
        what = f"byte 0x{data[start]:02x} is not {given} ({getattr(error, 'reason', error)})"
        raise RowError(f"{file}:{line}", f"{what}; {_remedy(file, data)}") from None
    before, nul, _ = text.partition("\0")
    if nul:
        line = before.count("\n") + 1
        raise RowError(f"{file}:{line}", f"a NUL character is not text in {given}; {_remedy(file, data)}")
    _warn(file, data, text, encoding)
    return text


def _warn(file: Path, data: bytes, text: str, encoding: str | None) -> None:
    """Warn of text that was read without an error, and is likely not what was written."""
    before, lost, _ = text.partition("\ufffd")
    if lost:
        line = before.count("\n") + 1
        _log.warning("%s:%d: the character U+FFFD stands for one that an earlier program could not read", file, line)
    if encoding is None or data.isascii():
        return
    try:
        other = data.decode("utf-8-sig")
    except UnicodeError:
        return
    if other != text:
        advice = "leave dataset.encoding out if letters look wrong"
        _log.warning("%s: the file is valid UTF-8, and is read as %s; %s", file, encoding, advice)


def _remedy(file: Path, data: bytes) -> str:
    if file.suffix.lower() in _SPREADSHEETS:
        return "the file is a spreadsheet: save it as CSV in UTF-8"
    if (kind := next((kind for begin, kind in _BINARY.items() if data.startswith(begin)), None)) is not None:
        return f"the file is {kind}"
    if data.startswith(_ARCHIVES):
        return "the file is an archive: unpack it first"
    foreign = [c for c in data.decode("utf-8", "replace") if not c.isascii() or c == "\0"]
    wrong = foreign.count("\ufffd") + foreign.count("\0")
    name = likely_encoding(data)
    if 2 * wrong < len(foreign) or (name is None and data.isascii()):
        rest = "the rest of the file is UTF-8: correct this place"
        return rest if wrong else "it is UTF-8: leave dataset.encoding out"
    if name is None:
        return "it is no text in a known encoding; save it as UTF-8, or name its encoding with dataset.encoding="
    return f"it is likely {name}: read it with dataset.encoding={name}, or save it as UTF-8"


def likely_encoding(data: bytes) -> str | None:
    """The encoding that text which is not UTF-8 is likely to be in ("gbk", "cp1252"), or None.

    By its byte order mark or zeros, else the one that gives the most letters that are common and of one script.
    """
    for mark, name in _MARKS.items():
        if data.startswith(mark):
            return name
    if data.count(0) > len(data) // 16:  # of the spaces and line ends of any script
        name = "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"
        return name if _is_text(data, name) else None
    scored = [(score, name) for name in (*_SINGLE, *_EAST_ASIAN) if (score := _score(data, name)) is not None]
    best, name = max(scored, key=lambda one: one[0], default=(0.0, ""))
    return name if best > 0.5 else None


def _is_text(data: bytes, name: str) -> bool:
    try:
        return not any(unicodedata.category(c) in _NO_TEXT and c not in "\t\r\n" for c in data.decode(name))
    except UnicodeError:
        return False


def _score(data: bytes, name: str) -> float | None:
    """Share of the foreign characters that look right; None if the bytes are no text in this encoding."""
    try:
        text = data.decode(name)
    except UnicodeError:
        return None
    foreign = [c for c in text if not c.isascii()]
    if not foreign or any(unicodedata.category(c) in _NO_TEXT for c in foreign):
        return None
    if name in _EAST_ASIAN:
        return sum(_is_common(c, name) for c in foreign) / len(foreign)
    words = regex.findall(r"[^\W\d_]+", text)
    good = sum(len([c for c in word if not c.isascii()]) for word in words if _looks_right(word))
    around = regex.findall(r"(?<!\w)[\p{P}&&[^\x00-\x7F]]|[\p{P}&&[^\x00-\x7F]](?!\w)|(?<=\w)’(?=\w)", text, regex.V1)
    return (good + len(around)) / len(foreign)


def _is_common(character: str, name: str) -> bool:
    code = character.encode(name)
    if len(code) < 2 or (name in ("gbk", "gb18030", "euc_kr", "euc_jp") and code[1] < 0xA1):
        return False
    return code[0] in _EAST_ASIAN[name] or unicodedata.category(character)[0] == "P"


def _looks_right(word: str) -> bool:
    """Whether a word is of one script, in the case of words, and not of accented Latin letters alone."""
    scripts = {unicodedata.name(c, "?").partition(" ")[0] for c in word}
    accented = [c for c in word if not c.isascii()]
    latin = scripts != {"LATIN"} or len(accented) < max(len(word), 2)
    return len(scripts) == 1 and latin and (word[1:].islower() or word.isupper() or not any(map(_has_case, word)))


def _has_case(character: str) -> bool:
    return character.lower() != character.upper()

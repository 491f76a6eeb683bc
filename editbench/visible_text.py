"""Text of unknown origin, shown as it is: what would act on a terminal or change the reading order is spelt out."""

from __future__ import annotations

import re

_ACTING = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and line feed: escapes, bells, carriage returns
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"  # direction marks, separators, what has no width
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
_ESCAPE = r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})"
_TO_SPELL = re.compile(f"[{_ACTING}]")
_TO_SPELL_BACK = re.compile(f"[{_ACTING}]|\\\\(?={_ESCAPE[2:]})")
_SPELT = re.compile(_ESCAPE)


def visible(text: str) -> str:
    r"""``text`` with "\x1b" for an escape, "\u202e" for a mark that turns the reading order; tabs and lines stay."""
    return _TO_SPELL.sub(_spelt, text)


def one_line(text: object) -> str:
    """A text, or an error's, as :func:`visible` shows it, its lines and blanks as single blanks."""
    return visible(" ".join(str(text).split()))


def spelt(text: str) -> str:
    r"""As :func:`visible`, and so that :func:`unspelt` gives ``text`` again: "\x5c" for a "\" that begins an escape."""
    return _TO_SPELL_BACK.sub(_spelt, text)


def unspelt(text: str) -> str:
    """The text behind that of :func:`spelt`."""
    return _SPELT.sub(lambda match: chr(int(match[1][1:], 16)), text)


def _spelt(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

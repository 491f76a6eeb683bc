"""Tables of rows in Markdown, and their places in a page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from editbench.results.columns import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from editbench.results.schema import Row


def markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    return "".join(f"| {' | '.join(line)} |\n" for line in (titles, ("---",) * len(titles), *rows))


def cell(run: Row, name: str) -> str:
    """A mean, with its 95 % interval if it has one."""
    mean, low, high = (number(run, f"{name}{end}") for end in ("", "_low", "_high"))
    if mean is None:
        return "–"
    return f"{mean:.3f}" if low is None or high is None else f"{mean:.3f} [{_short(low)}, {_short(high)}]"


def _short(value: float) -> str:
    return {"0.000": "0", "1.000": "1"}.get(f"{value:.3f}", f"{value:.3f}".removeprefix("0"))


def with_part(text: str, name: str, script: str, part: str) -> str:
    """A page's text with what stands between its comments ``NAME, by docs/SCRIPT`` and ``end of NAME`` replaced."""
    pattern = rf"(?<=<!-- {name}, by docs/{re.escape(script)} -->\n).*?(?=<!-- end of {name} -->)"
    made, places = re.subn(pattern, lambda _: part, text, flags=re.S)
    if places != 1:
        raise ValueError(f"a page has {places} parts {name!r} by {script}; one is wanted, between two comments")
    return made

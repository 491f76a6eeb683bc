"""The leaderboard as a LaTeX table for papers, in the style of the booktabs package."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from editbench.results.tables import NO_VALUE, Layout, Shown, layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from editbench.results.schema import Row
    from editbench.results.tables import Marks

_ESCAPES = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": "{`}",  # ?` would become an inverted question mark
    "[": "{[}",  # after a line's end, \\[ would start a length
    "]": "{]}",
    "--": "{-}{-}",  # would become a dash
    "±": r"$\pm$",
    "—": "---",
    "†": r"\textdagger{}",
    "…": r"\dots{}",
}


def to_latex(rows: Sequence[Row], *, by: Iterable[str] = (), marks: Marks | None = None) -> str:
    r"""The rows as a `tabular`, with a final newline; it needs \usepackage{booktabs}.

    Notes and legend follow as comments, for the caption. Arguments as in `layout`.
    """
    table = layout(rows, by=by, marks=marks)
    titles = table.titles[:-1]
    groups = "\\midrule\n".join("".join(_line(line[:-1]) for line in group) for group in table.groups)
    notes = [note.text for *_, note in table.lines if note.text]
    return (
        "% needs \\usepackage{booktabs}\n"
        f"\\begin{{tabular}}{{{''.join(_alignment(table, title) for title in titles)}}}\n"
        "\\toprule\n"
        f"{_line([Shown(title) for title in titles])}"
        f"\\midrule\n{groups}\\bottomrule\n"
        "\\end{tabular}\n"
    ) + "".join(f"% {' '.join(escape(text).split())}\n" for text in (*notes, *table.legend))


def escape(text: str) -> str:
    """`text` so that LaTeX sets it as it is; control characters become spaces."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text)
    return re.sub("|".join(map(re.escape, _ESCAPES)), lambda match: _ESCAPES[match[0]], text)


def _alignment(table: Layout, title: str) -> str:
    return "r" if table.is_figure(title) else "l"


def _line(cells: Iterable[Shown]) -> str:
    return f"{' & '.join(map(_cell, cells))} \\\\\n"


def _cell(shown: Shown) -> str:
    text = shown.text if shown.text == NO_VALUE else escape(" ".join(shown.text.split()))
    text = "---" if text == NO_VALUE else text
    text = rf"\textbf{{{text}}}" if shown.bold else text
    return rf"{text}\textsuperscript{{\textdagger}}" if shown.worse else text

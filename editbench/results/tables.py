"""Tables in the terminal, in Markdown and in LaTeX: of the leaderboard, of reference figures, of two compared runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.results.reference import compare
from editbench.results.table_layout import DAGGER, NO_VALUE, Layout, Marks, TableCell, View, layout
from editbench.results.wide_layout import widened
from editbench.visible_text import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from editbench.results.rank_stability import Agreement
    from editbench.results.schema import Row


USUAL = View()
NARROW = "Too narrow for the 95 % intervals: --format markdown, the CSV and a wider terminal have them."


def show(
    rows: Sequence[Row],
    *,
    style: str = "table",
    by: Sequence[str] = (),
    marks: Marks | None = None,
    view: View = USUAL,
    wide: bool = False,
) -> None:
    """Print the leaderboard as a terminal table, "markdown" or "latex"; ``wide`` has methods × data sets."""
    if wide:
        content = widened(layout(rows, by=by, marks=marks, intervals=False, view=view._replace(paper=True)))
        if style == "table":
            _print(_table(content), content.legend, console())
        else:
            print({"latex": _latex, "markdown": _markdown_table}[style](content))
    elif style == "table":
        print_table(rows, console=console(), by=by, marks=marks, view=view)
    else:
        print({"latex": to_latex, "markdown": to_markdown}[style](rows, by=by, marks=marks, view=view))


def console() -> Console:
    """Standard output; wide enough for the leaderboard where it is not a terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=220)


def print_table(
    rows: Sequence[Row],
    console: Console | None = None,
    *,
    by: Iterable[str] = (),
    marks: Marks | None = None,
    view: View = USUAL,
) -> None:
    """Print the table to the terminal, its notes below.

    On a narrow terminal one row stands upright, and several have no intervals.
    """
    from rich.console import Console

    console, by = console or Console(), list(by)
    full = layout(rows, by=by, marks=marks, view=view)
    table, legend = _table(full), full.legend
    if console.measure(table, options=console.options.update(max_width=1000)).maximum > console.width:
        without = layout(rows, by=by, marks=marks, intervals=False, view=view)
        table = _upright(full) if len(rows) == 1 else _table(without)
        if len(rows) > 1 and any(row.get("reliability_low") is not None for row in rows):
            legend = [*legend, NARROW]
    _print(table, [*full.notes, *legend], console)


def _print(table: Table, notes: Iterable[str], console: Console) -> None:
    from rich.text import Text

    console.print(table)
    for text in notes:
        console.print(Text(text))


def _table(content: Layout) -> Table:
    """All columns but the notes, as `Text`, so that brackets in a name are no markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for title in content.titles[:-1]:
        table.add_column(title, justify="right" if title in content.figures else "left", overflow="fold")
    for line in content.lines:
        table.add_row(*(Text(_with_dagger(cell), style="bold" if cell.bold else "") for cell in line[:-1]))
    return table


def _upright(content: Layout) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for title, cell in zip(content.titles[:-1], content.lines[0], strict=False):
        table.add_row(Text(title, style="bold"), Text(cell.text))
    return table


def _with_dagger(cell: TableCell) -> str:
    return f"{cell.text} {DAGGER}" if cell.worse else cell.text


def to_markdown(rows: Sequence[Row], *, by: Iterable[str] = (), marks: Marks | None = None, view: View = USUAL) -> str:
    """The finished runs in Markdown, other runs and the legend below, with a final newline."""
    return _markdown_table(layout(rows, by=by, marks=marks, view=view._replace(paper=True)))


def _markdown_table(content: Layout) -> str:
    lines = [content.titles, tuple("---:" if title in content.figures else "---" for title in content.titles)]
    lines += [tuple(map(_markdown, line)) for line in content.lines]
    legend = "".join(f"\n{_markdown(TableCell(text))}\n" for text in content.legend)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + legend


def _markdown(cell: TableCell) -> str:
    text = re.sub(r"[\\|*`<\[]", r"\\\g<0>", " ".join(_with_dagger(cell).split()))
    return f"**{text}**" if cell.bold else text


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


def to_latex(rows: Sequence[Row], *, by: Iterable[str] = (), marks: Marks | None = None, view: View = USUAL) -> str:
    r"""The finished runs as a `tabular`, with a final newline; it needs \usepackage{booktabs}.

    Notes, other runs and legend follow as comments, for the caption.
    """
    return _latex(layout(rows, by=by, marks=marks, view=view._replace(paper=True)))


def _latex(content: Layout) -> str:
    titles = content.titles[:-1]
    groups = "\\midrule\n".join("".join(_latex_line(line[:-1]) for line in group) for group in content.groups)
    return (
        "% needs \\usepackage{booktabs}\n"
        f"\\begin{{tabular}}{{{''.join('r' if title in content.figures else 'l' for title in titles)}}}\n"
        "\\toprule\n"
        f"{_latex_line([TableCell(title) for title in titles])}"
        f"\\midrule\n{groups}\\bottomrule\n"
        "\\end{tabular}\n"
    ) + "".join(f"% {' '.join(escape(text).split())}\n" for text in (*content.notes, *content.legend))


def escape(text: str) -> str:
    """`text` so that LaTeX sets it as it is; control characters become spaces."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text)
    return re.sub("|".join(map(re.escape, _ESCAPES)), lambda match: _ESCAPES[match[0]], text)


def _latex_line(cells: Iterable[TableCell]) -> str:
    return f"{' & '.join(map(_latex_cell, cells))} \\\\\n"


def _latex_cell(cell: TableCell) -> str:
    text = "---" if cell.text == NO_VALUE else escape(" ".join(cell.text.split()))
    text = rf"\textbf{{{text}}}" if cell.bold else text
    return rf"{text}\textsuperscript{{\textdagger}}" if cell.worse else text


def show_comparison(rows: Sequence[Row], reference: Path) -> int:
    """Print how `rows` differ from a CSV of reference figures; return the number of differences and refusals."""
    from rich.table import Table
    from rich.text import Text

    differences = compare(rows, reference)
    if not differences:
        print(f"{reference}: no row of it matches a run here")
    refused = [d for d in differences if d["verdict"] == "refused"]
    for d in refused:
        print(visible(f"{d['run']} is not compared with {reference}: {d['reason']}"))
    differences = [d for d in differences if d["verdict"] != "refused"]
    off = [d for d in differences if d["verdict"] != "same"]
    if off:
        table = Table("method", "measure", "measured", "reference", "difference", "", title=f"against {reference}")
        for d in off:
            figures = (_four_digits(value) for value in (d["measured"], d["reference"], d["difference"]))
            texts = (d["key"].get("method", ""), d["measure"])
            table.add_row(*(Text(visible(str(text))) for text in texts), *figures, d["verdict"])
        console().print(table)
    if differences:
        print(f"{len(differences) - len(off)} of {len(differences)} figures agree with {reference}")
    return len(refused) + len(off)


def show_difference(a: str, b: str, differences: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a paired comparison of two runs."""
    from rich.table import Table
    from rich.text import Text

    caption = Text(visible(f"a: {a}\nb: {b}"))
    table = Table("measure", "a", "b", "a - b", "95 %", "p", "records", caption=caption)
    for measure, d in differences.items():
        interval = f"{_four_digits(d['low'])} … {_four_digits(d['high'])}"
        figures = (_four_digits(d[name]) for name in ("a", "b", "difference"))
        table.add_row(Text(visible(measure)), *figures, interval, _four_digits(d["p_value"]), str(d["pairs"]))
    console().print(table)


def show_agreements(found: Sequence[Agreement]) -> None:
    """Print how far each two orders of methods agree, and below the table the orders."""
    from rich.table import Table
    from rich.text import Text

    differing = [name for name in found[0].task if len({one.task[name] for one in found}) > 1]
    table = Table(*differing, "by", "a", "b", "methods", "Kendall's τ", "95 %", "in opposite order")
    orders: dict[str, str] = {}
    for one in found:
        own = [one.task[name] for name in differing]
        figures = _four_digits(one.tau), f"{_four_digits(one.low)} … {_four_digits(one.high)}"
        cells = (*own, one.measure, one.a, one.b, str(one.methods), *figures, "; ".join(one.reversed) or NO_VALUE)
        table.add_row(*(Text(visible(cell)) for cell in cells))
        for side, order in ((one.a, one.order_a), (one.b, one.order_b)):
            orders[", ".join([*own, one.measure, side])] = order
    console().print(table)
    for name, order in orders.items():
        console().print(Text(visible(f"{name}: {order}")))


def _four_digits(value: float | None) -> str:
    return f"{value:.4g}" if isinstance(value, float) else NO_VALUE if value is None else str(value)

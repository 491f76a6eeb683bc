"""Writes the tables of ``docs/methods/index.md`` and ``docs/memory.md``.

    python docs/tables.py

The one is from the methods' classes, the other from the lines of ``python -m benchmarks.bench_methods`` in
``benchmarks/methods.jsonl``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench import plugins
from editbench.registry import method_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ROOT = Path(__file__).resolve().parents[1]
LINES = ROOT / "benchmarks" / "methods.jsonl"
OWN = "editbench.methods."
ALL = 10_000  # edits; a row with fewer is marked
BEGIN, END = "<!-- table, by docs/tables.py -->\n", "<!-- end of table -->"


def methods_table() -> str:
    """What each method of this package declares."""
    rows = []
    for name, point in plugins.entry_points(plugins.METHODS).items():
        if point.value.startswith(OWN):
            facts = method_facts(name)
            most = "any" if facts["max_batch"] is None else str(facts["max_batch"])
            link = f"[`{name}`]({name}.md)"
            rows.append((link, facts["title"], facts["kind"], ", ".join(facts["needs"]) or "–", most, facts["paper"]))
    return _markdown(("method", "title", "edits lie in", "needs", "at once", "paper"), rows)


def memory_table() -> str:
    """A row for each measured method."""
    rows = []
    for line in sorted(map(json.loads, LINES.read_text(encoding="utf-8").splitlines()), key=lambda of: of["method"]):
        rows.append(_memory_row(line))
    titles = ("method", "edits", "kept, MB", "bytes an edit", "resident: first, last, MB", "run's folder, MB")
    return _markdown((*titles, "an edit, ms", "a question: before, after, ms", "after : before"), rows)


def _memory_row(of: dict[str, Any]) -> tuple[str, ...]:
    edits = of["edits"]
    return (
        of["method"],
        f"{edits:,}{'' if edits >= ALL else ' *'}",
        f"{of['kept_bytes'] / 1e6:,.2f}",
        f"{of['kept_bytes'] / edits:,.0f}",
        f"{of['rss_first_mb']:,.0f}, {of['rss_last_mb']:,.0f}",
        f"{of['disk_mb']:,.0f}",
        f"{of['edit_cpu_ms']:,.0f}",
        f"{of['unedited_ms']:.1f}, {of['question_ms']:.1f}",
        f"{of['question_ms'] / of['unedited_ms']:.2f}",
    )


def _markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (titles, ["---"] * len(titles), *rows))


PAGES: dict[str, Callable[[], str]] = {"methods/index.md": methods_table, "memory.md": memory_table}


def page(name: str) -> str:
    """A page of ``docs/`` with its table made anew."""
    before, _, rest = (ROOT / "docs" / name).read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + PAGES[name]() + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    for name in PAGES:
        (ROOT / "docs" / name).write_text(page(name), encoding="utf-8")

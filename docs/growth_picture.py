"""Draws ``docs/growth.svg`` and writes the tables of ``docs/growth.md``, from ``benchmarks/growth.jsonl``.

    python docs/growth_picture.py

``growth.jsonl`` has the lines of ``python -m benchmarks.bench_long_stream``, each with ``method`` and ``model``.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE, PAGE, PICTURE = ROOT / "benchmarks/growth.jsonl", ROOT / "docs/growth.md", ROOT / "docs/growth.svg"
WIDTH, HEIGHT, LEFT, TOP, GAP = 480, 300, 50, 40, 60
COLOURS = {"finetune": "#999", "rome": "#c44", "memit": "#c80", "nse": "#28a", "scen": "#384"}
TITLES = {"tiny": "a tiny model, few steps", "pocket": "the embedded model, all steps"}
FLAT = 1.5  # an edit may take so many times what it takes in the first tenth
HIGHEST = 2.0

Row = dict[str, Any]


def streams() -> dict[tuple[str, str], list[Row]]:
    """By model and method, the lines of a stream."""
    found: dict[tuple[str, str], list[Row]] = {}
    for line in SOURCE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault((row["model"], row["method"]), []).append(row)
    return found


def tenths(rows: list[Row]) -> list[Row]:
    """The rows of what an edit costs as the stream grows."""
    return [row for row in rows if "cpu_ms" in row]


def fact(rows: list[Row], key: str) -> Any:
    """A number that one line has."""
    return next(row[key] for row in rows if key in row)


def picture() -> str:
    """The SVG's text: a panel a model, a line a method."""
    found = streams()
    models = [model for model in TITLES if any(key[0] == model for key in found)]
    panels = [
        _panel({method: tenths(rows) for (of, method), rows in found.items() if of == model}, model, i)
        for i, model in enumerate(models)
    ]
    width = len(models) * (WIDTH + LEFT + GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + TOP + 50}" '
        'font-family="sans-serif" font-size="13">\n' + "\n".join(panels) + "\n</svg>\n"
    )


def _panel(lines: dict[str, list[Row]], model: str, place: int) -> str:
    left, longest = place * (WIDTH + LEFT + GAP) + LEFT, max(rows[-1]["edits"] for rows in lines.values())

    def x(edits: float) -> float:
        return left + WIDTH * edits / longest

    def y(ratio: float) -> float:
        return TOP + HEIGHT * (1 - min(ratio, HIGHEST) / HIGHEST)

    parts = [f'<text x="{left}" y="20" font-weight="bold">{escape(TITLES[model])}</text>']
    for ratio in (0, 0.5, 1, FLAT, HIGHEST):
        dashes = ' stroke-dasharray="4"' if ratio == FLAT else ""
        parts.append(f'<path d="M{left} {y(ratio):.0f}h{WIDTH}" stroke="#ccc"{dashes}/>')
        parts.append(f'<text x="{left - 8}" y="{y(ratio) + 4:.0f}" text-anchor="end">{ratio:g}</text>')
    for share in (0.5, 1):
        edits = share * longest
        parts.append(f'<text x="{x(edits):.0f}" y="{TOP + HEIGHT + 20}" text-anchor="end">{edits:,.0f}</text>')
    parts.append(f'<text x="{left}" y="{TOP + HEIGHT + 40}">time of an edit beside the first tenth, by edits</text>')
    for i, (method, rows) in enumerate(sorted(lines.items())):
        first, colour = rows[0]["cpu_ms"], COLOURS[method]
        points = " ".join(f"{x(row['edits']):.0f},{y(row['cpu_ms'] / first):.0f}" for row in rows)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{left + 10 + 90 * i}" y="{TOP + HEIGHT - 10}" fill="{colour}">{method}</text>')
    return "\n".join(parts)


def table(model: str) -> str:
    """The Markdown table of a model's streams."""
    names = "method|edits|an edit: first, last tenth, ms|last : first|memory: first, last, MB|disk, MB|resume|"
    names += "leaderboard, report, s"
    lines = [f"| {names.replace('|', ' | ')} |", "|---" * 8 + "|"]
    for (of, method), rows in sorted(streams().items()):
        if of != model:
            continue
        first, *_, last = tenths(rows)
        seconds = {row["what"]: row["seconds"] for row in rows if "what" in row}
        cells = [
            method,
            f"{last['edits']:,}",
            f"{first['cpu_ms']:.1f}, {last['cpu_ms']:.1f}",
            f"{last['cpu_ms'] / first['cpu_ms']:.2f}",
            f"{first['rss_mb']:.0f}, {last['rss_mb']:.0f}",
            f"{last['disk_mb']:,.0f}",
            f"{max(0.0, fact(rows, 'resume_share')):.1%}",
            f"{seconds['leaderboard']:.1f}, {seconds['report']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page() -> str:
    """The page with its tables made anew."""
    text = PAGE.read_text(encoding="utf-8")
    for model in {model for model, _ in streams()}:
        begin, end = f"<!-- table {model} -->\n", f"<!-- end {model} -->"
        head, _, rest = text.partition(begin)
        text = head + begin + "\n" + table(model) + "\n\n" + end + rest.partition(end)[2]
    return text


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")

"""Draws ``docs/growth.svg``: what an edit costs, and the memory of the process, as a long stream goes on.

    python docs/growth_picture.py

The rows are those of ``python -m benchmarks.bench_long_stream … --out benchmarks/growth.jsonl``.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_tables import COLOURS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[1]
LINES, FILE = ROOT / "benchmarks" / "growth.jsonl", ROOT / "docs" / "growth.svg"
MODELS = {"tiny": "a tiny Llama, different facts, few steps", "pocket": "the embedded Llama, all steps"}
WIDTH, PANEL, LEFT, TOP, RIGHT, BOTTOM = 920, 300, 60, 44, 110, 40
DASHES = {"tiny": "", "pocket": ' stroke-dasharray="6 4"'}
MOST = 2.0  # times the first tenth, at the top of the first panel
FLAT = 1.5

Curve = list[tuple[float, float]]


def tenths() -> dict[tuple[str, str], list[dict[str, Any]]]:
    """By model and method, the rows of a stream's tenths, in order."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in map(json.loads, LINES.read_text(encoding="utf-8").splitlines()):
        if "cpu_ms" in row:
            found.setdefault((row["model"], row["method"]), []).append(row)
    return {key: _whole(rows) for key, rows in found.items()}


def _whole(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of whole tenths: one before a kill, and one behind it, are of a few edits."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        if row["edits"] - (kept[-1]["edits"] if kept else 0) > rows[-1]["edits"] / 20:
            kept.append(row)
    return kept


def relative_time(rows: Sequence[dict[str, Any]]) -> Curve:
    """(share of the stream, an edit's time beside that in the first tenth, of one fixed product's time each)."""
    first = rows[0]["cpu_ms"] / rows[0]["product_ms"]
    return [(row["edits"] / rows[-1]["edits"], row["cpu_ms"] / row["product_ms"] / first) for row in rows]


def memory(rows: Sequence[dict[str, Any]]) -> Curve:
    """(share of the stream, resident megabytes)."""
    return [(row["edits"] / rows[-1]["edits"], row["rss_mb"]) for row in rows]


def picture() -> str:
    """The SVG's text."""
    of = tenths()
    top = 200.0 * (1 + max((row["rss_mb"] for rows in of.values() for row in rows), default=0.0) // 200)
    lines = _panel(0, "CPU time of an edit beside the first tenth's", relative_time, MOST, (0.5, 1.0, FLAT, MOST))
    lines += _panel(1, "resident memory, MB", memory, top, [top * part / 4 for part in range(5)])
    named = dict.fromkeys(method for _, method in of)
    apart = min(20.0, PANEL / max(1, len(named) - 1))
    for i, method in enumerate(named):
        y = TOP + apart * i
        lines.append(f'<path d="M{WIDTH - RIGHT + 12} {y:.1f}h20" stroke="{COLOURS[method]}" stroke-width="3"/>')
        lines.append(_text(WIDTH - RIGHT + 38, y + 4, method))
    drawn = [model for model in MODELS if any(model == one for one, _ in of)]
    kinds = ("dashed" if DASHES[model] else "solid" for model in drawn)
    words = "; ".join(f"{kind}: {MODELS[model]}" for kind, model in zip(kinds, drawn, strict=True))
    height = TOP + PANEL + BOTTOM
    lines.append(_text(LEFT, height - 4, f"share of the stream ({words})"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + 6}" font-family="sans-serif" '
        'font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(lines) + "\n</svg>\n"
    )


def _panel(
    number: int,
    title: str,
    curve: Callable[[Sequence[dict[str, Any]]], Curve],
    top: float,
    ticks: Sequence[float],
) -> list[str]:
    width = (WIDTH - LEFT - RIGHT - 60) / 2
    left = LEFT + number * (width + 60)

    def place(x: float, y: float) -> str:
        return f"{left + width * x:.1f} {TOP + PANEL * (1 - min(y, top) / top):.1f}"

    lines = [_text(left, TOP - 18, title)]
    for tick in ticks:
        x, y = place(0, tick).split()
        lines.append(f'<path d="M{x} {y}h{width:.1f}" stroke="#ddd"/>')
        lines.append(_text(float(x) - 6, float(y) + 4, f"{tick:g}", "end"))
    for (model, method), rows in tenths().items():
        path = " L".join(place(*point) for point in curve(rows))
        style = f'fill="none" stroke="{COLOURS[method]}" stroke-width="2"{DASHES[model]}'
        lines.append(f'<path class="curve" d="M{path}" {style}/>')
    return lines


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#333">{escape(text)}</text>'


if __name__ == "__main__":
    FILE.write_text(picture(), encoding="utf-8")

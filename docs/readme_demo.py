"""Draws ``docs/demo.svg`` and sets the table of the README, from the reference rows of ``editbench demo``.

    python docs/readme_demo.py

``results/reference/demo.csv`` has the rows of the runs, ``demo_points.csv`` those after so many edits: the demo's
``leaderboard.csv`` and ``points.csv``.
"""

from __future__ import annotations

import math
import re
from html import escape
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from editbench.results.columns import number
from editbench.results.csv_files import read_csv
from editbench.results.findings import findings
from editbench.results.schema import HEADLINES

if TYPE_CHECKING:
    from editbench.results.schema import Row

ROOT = Path(__file__).resolve().parents[1]
RUNS, POINTS = (ROOT / "results" / "reference" / name for name in ("demo.csv", "demo_points.csv"))
README, FIGURE = ROOT / "README.md", ROOT / "docs" / "demo.svg"
PART = re.compile(r"(?<=<!-- demo, by docs/readme_demo\.py -->\n).*(?=<!-- end of demo -->)", re.S)
COLOURS = {  # Okabe and Ito
    "scen": "#0072b2",
    "nse": "#009e73",
    "memit": "#e69f00",
    "rome": "#d55e00",
    "finetune": "#cc79a7",
    "unedited": "#777777",
}
WIDTH, HEIGHT = 760, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 110, 34, 46  # margins
LABEL = 15  # smallest distance of two labels


def table(runs: list[Row]) -> str:
    """The runs in Markdown, best first, with 95 % intervals."""
    figures = (*HEADLINES, "final.subject_fact.agreement", "perplexity_ratio", "score")
    titles = ("method", *HEADLINES, "other facts", "perplexity ratio", "score")
    lines = [titles, ("---",) * len(titles)]
    for run in sorted(runs, key=lambda run: -(number(run, "score") or 0.0)):
        lines.append((str(run["method"]), *(_cell(run, figure) for figure in figures)))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(run: Row, name: str) -> str:
    mean, low, high = (number(run, f"{name}{end}") for end in ("", "_low", "_high"))
    if mean is None:
        return "–"
    return f"{mean:.3f}" if low is None or high is None else f"{mean:.3f} [{_short(low)}, {_short(high)}]"


def _short(value: float) -> str:
    return {"0.000": "0", "1.000": "1"}.get(f"{value:.3f}", f"{value:.3f}".removeprefix("0"))


def part(runs: list[Row], points: list[Row]) -> str:
    """The README's part: table, and what one sees in words."""
    return f"\n{table(runs)}\n{fill(' '.join(findings(points)), 120)}\n\n"


def figure(points: list[Row]) -> str:
    """The SVG's text: score over the number of edits on a log scale, a line for each method, bars of 95 % intervals."""
    edits = sorted({int(point["edits"] or 1) for point in points})
    lines = [_text(_x(n, edits), HEIGHT - BOTTOM + 20, str(n), "middle") for n in edits]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        lines.append(f'<path d="M{LEFT} {_y(tick):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        lines.append(_text(LEFT - 8, _y(tick) + 4, f"{tick:.2f}", "end"))
    lines.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "sequential edits", "middle"))
    lines.append(_text(LEFT, 18, "Score: harmonic mean of reliability, generality and locality, of all edits so far"))
    by_method = {m: [p for p in points if p["method"] == m and number(p, "score") is not None] for m in COLOURS}
    ends = _apart({m: _y(number(own[-1], "score") or 0.0) for m, own in by_method.items() if own})
    for method, own in by_method.items():
        lines += _line(COLOURS[method], own, edits)
        if own:
            lines.append(_text(WIDTH - RIGHT + 12, ends[method] + 4, method, colour=COLOURS[method]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="13">\n<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(lines) + "\n</svg>\n"
    )


def _line(colour: str, points: list[Row], edits: list[int]) -> list[str]:
    found, path = [], []
    for point in points:
        x, y = _x(int(point["edits"] or 1), edits), _y(number(point, "score") or 0.0)
        low, high = number(point, "score_low"), number(point, "score_high")
        if low is not None and high is not None:
            found.append(f'<path d="M{x:.1f} {_y(low):.1f}V{_y(high):.1f}" stroke="{colour}" stroke-opacity=".35"/>')
        found.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
        path.append(f"{x:.1f} {y:.1f}")
    return [f'<path d="M{" L".join(path)}" fill="none" stroke="{colour}" stroke-width="2"/>', *found] if path else []


def _apart(places: dict[str, float]) -> dict[str, float]:
    """Labels' heights, moved so that none covers another: downwards from the top, then up from the bottom."""
    names = sorted(places, key=lambda name: places[name])
    found = dict(places)
    for above, below in zip(names, names[1:], strict=False):
        found[below] = max(found[below], found[above] + LABEL)
    limit = float(HEIGHT - BOTTOM)
    for name in reversed(names):
        found[name] = min(found[name], limit)
        limit = found[name] - LABEL
    return found


def _x(edits: int, all_edits: list[int]) -> float:
    first, last = math.log(all_edits[0]), math.log(all_edits[-1])
    return LEFT + 10 + (WIDTH - LEFT - RIGHT - 20) * (math.log(edits) - first) / ((last - first) or 1.0)


def _y(score: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - score)


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


if __name__ == "__main__":
    of_runs, of_points = read_csv(RUNS), read_csv(POINTS)
    FIGURE.write_text(figure(of_points), encoding="utf-8")
    README.write_text(
        PART.sub(lambda _: part(of_runs, of_points), README.read_text(encoding="utf-8")), encoding="utf-8"
    )

"""Draws the figures of ``editbench demo`` and ``demo --long``, and sets their tables in README and ``docs/results.md``.

    python docs/demo_tables.py

``results/reference/demo.csv`` and ``demo_long.csv`` have the rows of the runs, ``…_points.csv`` those after so many
edits: the commands' ``leaderboard.csv`` and ``points.csv``.
"""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from cells import cell, markdown, with_part

from editbench.results.columns import number
from editbench.results.csv_files import read_csv
from editbench.results.findings import findings
from editbench.results.points import measure_of
from editbench.results.schema import HEADLINES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editbench.results.schema import Row

ROOT = Path(__file__).resolve().parents[1]
DOCS, REFERENCE = ROOT / "docs", ROOT / "results" / "reference"
README, RESULTS = ROOT / "README.md", DOCS / "results.md"
FIGURES = {  # of the long demo, by dataset
    "counterfact": ("CounterFact", "long_counterfact.svg"),
    "zsre": ("ZsRE", "long_zsre.svg"),
    "hallucination": ("Hallucination", "long_hallucination.svg"),
}
SHORT_FIGURE = "demo.svg"
SCRIPT = "demo_tables.py"
MEASURES = {
    "score": "Score: harmonic mean of reliability, generality and locality, of all edits so far",
    "reliability": "Reliability: share of the tokens of the answers, of all edits so far",
}
COLOURS = {  # Okabe and Ito; of the others Tol's, "muted" and "light"
    "scen": "#0072b2",
    "nse": "#009e73",
    "memit": "#e69f00",
    "rome": "#d55e00",
    "finetune": "#cc79a7",
    "unedited": "#777777",
    "alphaedit": "#117733",
    "memit_seq": "#999933",
    "rect": "#ddcc77",
    "prune": "#882255",
    "emmet": "#cc6677",
    "pmet": "#661100",
    "grace": "#332288",
    "wise": "#44aa99",
    "melo": "#88ccee",
    "defer": "#aa4499",
    "lora": "#ee8866",
    "ultraedit": "#6699cc",
    "mend": "#bbcc33",
    "rledit": "#aaaa00",
    "in_context": "#99ddff",
    "retrieval": "#000000",
}
WIDTH, HEIGHT = 760, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 110, 34, 46  # margins
LABEL = 15  # smallest distance of two labels


def table(runs: Sequence[Row]) -> str:
    """The runs in Markdown, best first, with 95 % intervals; without the columns that they have not."""
    names = {name: name for name in HEADLINES}
    names |= {"final.subject_fact.agreement": "other facts", "perplexity_ratio": "perplexity ratio", "score": "score"}
    names = {name: title for name, title in names.items() if any(number(run, name) is not None for run in runs)}
    rows = ((str(run["method"]), *(cell(run, name) for name in names)) for run in _best_first(runs))
    return markdown(("method", *names.values()), rows)


def overview(runs: Sequence[Row]) -> str:
    """The means of each method on each dataset in Markdown, best on the first dataset first."""
    columns = [
        (dataset, name, f"{title}: {name}" if name == HEADLINES[0] else name)
        for dataset, (title, _) in FIGURES.items()
        for name in HEADLINES
        if any(number(run, name) is not None for run in runs if run["dataset"] == dataset)
    ]
    of = {(run["dataset"], run["method"]): run for run in runs}
    first = next(iter(FIGURES))
    rows = []
    for method in (str(run["method"]) for run in _best_first([run for run in runs if run["dataset"] == first])):
        cells = (number(of[dataset, method], name) for dataset, name, _ in columns)
        rows.append((method, *("–" if mean is None else f"{mean:.2f}" for mean in cells)))
    return markdown(("method", *(title for *_, title in columns)), rows)


def _best_first(runs: Sequence[Row]) -> list[Row]:
    return sorted(runs, key=lambda run: -(number(run, measure_of(runs)) or 0.0))


def seen(points: Sequence[Row], indent: str = "") -> str:
    """What one sees in the points, in words."""
    return fill(" ".join(findings(points, measure_of(points))), 120, subsequent_indent=indent)


def demo_part(runs: Sequence[Row], points: Sequence[Row]) -> str:
    """The README's part on the demo: table, and what one sees."""
    return f"\n{table(runs)}\n{seen(points)}\n\n"


def long_part(runs: Sequence[Row], points: Sequence[Row]) -> str:
    """The README's part on the long demo."""
    words = (f"- {title}. {seen(_of(points, dataset), '  ')}\n" for dataset, (title, _) in FIGURES.items())
    return f"\n{overview(runs)}\n{''.join(words)}\n"


def results_part(runs: Sequence[Row], points: Sequence[Row]) -> str:
    """The part of ``docs/results.md``: figure, table and words of each dataset."""
    found = ""
    for dataset, (title, picture) in FIGURES.items():
        found += f"\n### {title}\n\n![{title}: each method after so many edits]({picture})\n\n"
        found += f"{table(_of(runs, dataset))}\n{seen(_of(points, dataset))}\n"
    return f"{found}\n"


def _of(rows: Sequence[Row], dataset: str) -> list[Row]:
    return [row for row in rows if row["dataset"] == dataset]


def figure(points: Sequence[Row]) -> str:
    """The SVG's text: the measure over the number of edits on a log scale, a line a method, bars of 95 % intervals."""
    edits, measure = sorted({int(point["edits"] or 1) for point in points}), measure_of(points)
    named = [n for n in edits if n == edits[-1] or _x(edits[-1], edits) - _x(n, edits) > 2 * LABEL]
    lines = [_text(_x(n, edits), HEIGHT - BOTTOM + 20, f"{n:,}", "middle") for n in named]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        lines.append(f'<path d="M{LEFT} {_y(tick):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        lines.append(_text(LEFT - 8, _y(tick) + 4, f"{tick:.2f}", "end"))
    lines.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "sequential edits", "middle"))
    lines.append(_text(LEFT, 18, MEASURES[measure]))
    by_method = {m: [p for p in points if p["method"] == m and number(p, measure) is not None] for m in COLOURS}
    ends = _apart({m: _y(number(own[-1], measure) or 0.0) for m, own in by_method.items() if own})
    for method, own in by_method.items():
        lines += _line(COLOURS[method], own, edits, measure)
        if own:
            lines.append(_text(WIDTH - RIGHT + 12, ends[method] + 4, method, colour=COLOURS[method]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="13">\n<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(lines) + "\n</svg>\n"
    )


def _line(colour: str, points: list[Row], edits: list[int], measure: str) -> list[str]:
    found, path = [], []
    for point in points:
        x, y = _x(int(point["edits"] or 1), edits), _y(number(point, measure) or 0.0)
        low, high = number(point, f"{measure}_low"), number(point, f"{measure}_high")
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


def reference(name: str) -> tuple[list[Row], list[Row]]:
    """Rows of runs, and of points, of ``demo`` or ``demo_long``."""
    return read_csv(REFERENCE / f"{name}.csv"), read_csv(REFERENCE / f"{name}_points.csv")


def written() -> dict[Path, str]:
    """The text of each file that this script writes."""
    short, long = reference("demo"), reference("demo_long")
    files = {DOCS / picture: figure(_of(long[1], dataset)) for dataset, (_, picture) in FIGURES.items()}
    files[DOCS / SHORT_FIGURE] = figure(short[1])
    readme = with_part(README.read_text(encoding="utf-8"), "demo", SCRIPT, demo_part(*short))
    files[README] = with_part(readme, "long demo", SCRIPT, long_part(*long))
    files[RESULTS] = with_part(RESULTS.read_text(encoding="utf-8"), "long demo", SCRIPT, results_part(*long))
    return files


if __name__ == "__main__":
    for file, text in written().items():
        file.write_text(text, encoding="utf-8")

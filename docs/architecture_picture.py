"""Draws ``docs/architecture.svg``: the parts of editbench and who imports whom, read from the source.

    python docs/architecture_picture.py

A part is a module or package of ``editbench/``; all methods are one part. A part stands above everything that
it imports. An arrow that follows from others (a → b → c makes a → c) is left out, and so are the parts that anybody
may import, which are the ground floor.
"""

from __future__ import annotations

import ast
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GROUND = (
    "checks",
    "costs",
    "fetched",
    "files",
    "hub_names",
    "json_lines",
    "plugins",
    "progress",
    "search_space",
    "words",
)
WIDTH, BOX, ROW, GAP = 1000, 30, 74, 14


def part(name: str) -> str | None:
    """The part that a dotted name belongs to; None for what is not editbench's."""
    parts = name.split(".")
    return parts[1] if parts[0] == "editbench" and len(parts) > 1 else None


def imports() -> dict[str, set[str]]:
    """By part, the parts that it imports, those for types and those inside functions included."""
    found: dict[str, set[str]] = {}
    for folder in (ROOT / "editbench", ROOT / "methods"):
        for file in sorted(folder.rglob("*.py")):
            inside = file.relative_to(ROOT).with_suffix("").parts
            own = "methods" if inside[0] == "methods" else inside[1]
            if own != "__init__":
                found.setdefault(own, set()).update(_imported(file))
    names = set(found)
    return {own: {name for name in used if name in names and name != own} for own, used in found.items()}


def _imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {part(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            dotted = [node.module] if node.module != "editbench" else [f"editbench.{a.name}" for a in node.names]
            found |= {part(name) for name in dotted}
    return {name for name in found if name is not None}


def floors(arrows: dict[str, set[str]]) -> dict[str, int]:
    """By part, the length of the longest way down from it.

    Raises:
        ValueError: There is a circle.
    """
    known: dict[str, int] = {}

    def height(name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise ValueError(f"a circle of imports: {' → '.join([*above[above.index(name) :], name])}")
        if name not in known:
            known[name] = 1 + max((height(below, (*above, name)) for below in sorted(arrows[name])), default=-1)
        return known[name]

    for name in sorted(arrows):
        height(name, ())
    return known


def reduced(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without the arrows that follow from others."""

    def reach(name: str) -> set[str]:
        return set().union(*({below} | reach(below) for below in arrows[name]))

    return {name: {b for b in below if not any(b in reach(o) for o in below - {b})} for name, below in arrows.items()}


def picture() -> str:
    """The SVG's text."""
    every = imports()
    arrows = {name: used - set(GROUND) for name, used in every.items() if name not in GROUND}
    level = floors(arrows)
    rows = [sorted(name for name in level if level[name] == floor) for floor in range(max(level.values()) + 1)]
    height = (len(rows) + 1) * ROW + GAP
    places: dict[str, tuple[float, float, float]] = {}  # middle, top, width
    for floor, names in enumerate(rows):
        for index, name in enumerate(names):
            places[name] = (WIDTH * (index + 1) / (len(names) + 1), height - (floor + 2) * ROW, 9.0 * len(name) + 22)
    lines = [
        f'<line x1="{places[a][0]:.0f}" y1="{places[a][1] + BOX:.0f}" x2="{places[b][0]:.0f}" y2="{places[b][1]:.0f}"/>'
        for a, below in sorted(reduced(arrows).items())
        for b in sorted(below)
    ]
    boxes = [_box(name, *place) for name, place in sorted(places.items())]
    boxes.append(_box("anybody may import: " + ", ".join(GROUND), WIDTH / 2, height - ROW, WIDTH - 2 * GAP))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="monospace" font-size="14">\n'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#888"/></marker></defs>\n'
        '<g stroke="#888" marker-end="url(#arrow)">\n' + "\n".join(lines) + "\n</g>\n" + "\n".join(boxes) + "\n</svg>\n"
    )


def _box(name: str, middle: float, top: float, width: float) -> str:
    return (
        f'<rect x="{middle - width / 2:.0f}" y="{top:.0f}" width="{width:.0f}" height="{BOX}" rx="4" fill="#eef3fa" '
        f'stroke="#456"/><text x="{middle:.0f}" y="{top + 20:.0f}" text-anchor="middle">{escape(name)}</text>'
    )


if __name__ == "__main__":
    (ROOT / "docs" / "architecture.svg").write_text(picture(), encoding="utf-8")

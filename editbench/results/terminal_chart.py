"""A measure over the number of edits, drawn in the terminal: a line for each method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from editbench.results.columns import number

if TYPE_CHECKING:
    from editbench.results.schema import Row

WIDTH, HEIGHT = 100, 20  # characters at most
MARKERS = ("circle", "square", "up", "diamond", "down", "emptycircle", "emptysquare", "emptydiamond")
COLOURS = ("blue+", "orange+", "green+", "red+", "magenta+", "cyan+", "gray", "default")
LEGEND_SHARE = 0.3  # of the axis of edits, to its right and free of lines


def chart(
    points: Sequence[Row], title: str, measure: str = "score", *, width: int = WIDTH, colours: bool = True
) -> str:
    """Lines of text that draw the points of :func:`~editbench.results.points.points_of`; edits on a log scale."""
    import plotext

    lines: dict[str, dict[float, float]] = {}
    for point in points:
        if (value := number(point, measure)) is not None:
            lines.setdefault(str(point["method"]), {})[math.log10(int(point["edits"] or 1))] = value
    figure = plotext.figure
    figure.clear()  # plotext has one figure for all
    figure.theme("simple" if colours else "colorless")
    figure.plot_size(min(width, WIDTH), HEIGHT)
    for i, (method, of_method) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)] if colours else "default"
        symbol = MARKERS[i % len(MARKERS)]
        joined = figure.signal([*of_method], [*of_method.values()], marker=plotext.marker("braille", colour))
        figure.draw(joined.lines())
        marked = figure.signal([*of_method], [*of_method.values()], marker=plotext.marker(symbol, colour))
        figure.draw(marked.label(method))
    at = sorted({int(point["edits"] or 1) for point in points})
    first, last = math.log10(at[0]), math.log10(at[-1])
    right = last + LEGEND_SHARE * (last - first or 1.0)
    figure.ruler("x").lim(first, right)
    figure.ruler("x").ticks([math.log10(edits) for edits in at], [str(edits) for edits in at])
    figure.ruler("y").lim(0, 1)
    figure.ruler("y").ticks([0, 0.25, 0.5, 0.75, 1])
    figure.legend(x=right, y=1, ha="right", relative=True)
    figure.title(title)
    figure.label("edits")
    drawn = figure.build().string(colorless=not colours)
    return "\n".join(line.rstrip() for line in drawn.splitlines())

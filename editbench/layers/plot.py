"""What ``editbench locate`` draws: one self-contained HTML file, where plotly is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from editbench.layers.sweep import VALUE_FOUND
from editbench.layers.tables import TITLES
from editbench.results.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from editbench.layers.sweep import LayerScore
    from editbench.layers.tracing import Trace
    from editbench.results.schema import Measure

Series = dict[str, "list[Measure | None]"]
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")  # Okabe and Ito: told apart by everybody
GAP = 0.15
"""Between two panels, as a share of the height."""


def write_plot(
    file: Path, title: str, trace: Trace | None, scores: Sequence[LayerScore], headline: Mapping[str, str]
) -> None:
    """Draw indirect effects and measures of single edits over the layers.

    Raises:
        ImportError: plotly is not installed.
        ResultsError: The file cannot be written.
    """
    from plotly.io import to_html
    from plotly.subplots import make_subplots

    panels: list[tuple[str, Sequence[int], Series]] = []
    if trace is not None:
        effects: Series = {TITLES[name]: list(values) for name, values in trace.indirect.items()}
        panels.append(("causal tracing: indirect effect of restoring", trace.layers, effects))
    if scores:
        names = {**headline, "values found": VALUE_FOUND}
        measures: Series = {label: [s.measures.get(name) for s in scores] for label, name in names.items()}
        panels.append(("sweep: single ROME edits", [s.layer for s in scores], measures))
    page = make_subplots(len(panels), 1, vertical_spacing=GAP, subplot_titles=[panel[0] for panel in panels])
    for row, (_, layers, series) in enumerate(panels, start=1):
        for colour, (name, values) in zip(_COLOURS, series.items(), strict=False):
            page.add_trace(_line(name, layers, values, colour, row), row=row, col=1)
        page.update_xaxes(title_text="layer", dtick=1 + len(layers) // 25, tick0=layers[0], row=row, col=1)
    legends = {_legend(row): {"y": 1 - (row - 1) * (1 + GAP) / 2, "yanchor": "top"} for row in (1, 2)}
    page.update_layout(title=title, template="plotly_white", height=400 * len(panels) + 100, **legends)
    write_atomic(file, to_html(page, include_plotlyjs=True).encode())


def _line(name: str, layers: Sequence[int], values: list[Measure | None], colour: str, row: int) -> Any:
    """A line over the layers with its 95 % intervals; a gap where there is no number."""
    from plotly.graph_objects import Scatter

    means = [v["mean"] if v is not None else None for v in values]
    bars = {
        sign: [abs(v[end] - v["mean"]) if v is not None and v[end] is not None else 0.0 for v in values]  # type: ignore[literal-required]
        for sign, end in (("array", "high"), ("arrayminus", "low"))
    }
    return Scatter(
        x=list(layers),
        y=means,
        name=name,
        mode="lines+markers",
        line={"color": colour},
        error_y={"type": "data", "symmetric": False, "thickness": 1, "width": 3, **bars},
        legend=_legend(row),
    )


def _legend(row: int) -> str:
    """Plotly's name for the legend of a panel."""
    return "legend" if row == 1 else f"legend{row}"

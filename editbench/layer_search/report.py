"""Report of ``editbench locate``: tables for the terminal and a plot of trace and sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from editbench.files import write_atomic
from editbench.layer_search.layer_sweep import CONTRAST, SECONDS, VALUE_FOUND, LayerScore

if TYPE_CHECKING:
    from editbench.layer_search.causal_tracing import Trace
    from editbench.results.schema import Estimate


TITLES = {
    "hidden.subject": "hidden state, subject's last token",
    "mlp.subject": "MLPs, subject's last token",
    "hidden.last": "hidden state, prompt's last token",
    "mlp.last": "MLPs, prompt's last token",
}
"""Titles by "kind.site"."""


def trace_table(trace: Trace) -> Table:
    """Indirect effects by layer."""
    title = f"causal tracing: indirect effect by layer, {len(trace.records)} records"
    caption = (
        f"p(true answer): clean {estimate_text(trace.clean)}, subject corrupted {estimate_text(trace.corrupted)}; "
        f"total effect {estimate_text(trace.total)}. MLPs restored together: {trace.window}. [95 % interval]"
    )
    table = Table("layer", title=title, caption=caption)
    for heading in TITLES.values():
        table.add_column(heading, justify="right")
    for place, layer in enumerate(trace.layers):
        table.add_row(str(layer), *(estimate_text(trace.indirect[name][place]) for name in TITLES))
    return table


def sweep_table(scores: Sequence[LayerScore], headline: Mapping[str, str]) -> Table:
    """Measures of single edits by layer."""
    title = f"sweep: ROME at one layer at a time, {max(score.edits for score in scores)} single edits"
    named = ", ".join(f"{kind}: {name}" for kind, name in headline.items())
    penalised = "their harmonic mean, reliability and generality times the share of edits made"
    caption = f"{named}; score: {penalised}. [95 % interval]"
    table = Table("layer", "score", title=title, caption=caption)
    names = [*headline.values(), CONTRAST, VALUE_FOUND, SECONDS]
    for name in [*headline, "NLL contrast", "values found", "seconds", "failed"]:
        table.add_column(name, justify="right")
    for score in scores:
        numbers = [estimate_text(score.measures.get(name), interval=name != SECONDS) for name in names]
        whole = "—" if score.score is None else f"{score.score:.3f}"
        table.add_row(str(score.layer), whole, *numbers, str(len(score.failed) or ""))
    return table


def estimate_text(measure: Estimate | None, *, interval: bool = True) -> str:
    """A mean with its interval, or a dash if there is none."""
    if measure is None or measure["mean"] is None:
        return "—"
    low, high = measure["low"], measure["high"]
    return f"{measure['mean']:.3f}" + (f" [{low:.2f}, {high:.2f}]" if interval and low is not None else "")


Series = dict[str, "list[Estimate | None]"]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")  # Okabe and Ito, safe for the colour-blind

_GAP = 0.15
"""Gap between two panels, as a share of the height."""


def write_plot(
    file: Path, title: str, trace: Trace | None, scores: Sequence[LayerScore], headline: Mapping[str, str]
) -> None:
    """Draw indirect effects and measures of single edits over the layers; needs plotly."""
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
    page = make_subplots(len(panels), 1, vertical_spacing=_GAP, subplot_titles=[panel[0] for panel in panels])
    for row, (_, layers, series) in enumerate(panels, start=1):
        for colour, (name, values) in zip(_COLOURS, series.items(), strict=False):
            page.add_trace(_line(name, layers, values, colour, row), row=row, col=1)
        page.update_xaxes(title_text="layer", dtick=1 + len(layers) // 25, tick0=layers[0], row=row, col=1)
    legends = {_legend(row): {"y": 1 - (row - 1) * (1 + _GAP) / 2, "yanchor": "top"} for row in (1, 2)}
    page.update_layout(title=title, template="plotly_white", height=400 * len(panels) + 100, **legends)
    write_atomic(file, to_html(page, include_plotlyjs=True).encode())


def _line(name: str, layers: Sequence[int], values: list[Estimate | None], colour: str, row: int) -> Any:
    """A line over the layers with 95 % intervals; a gap where there is no number."""
    from plotly.graph_objects import Scatter

    means = [v["mean"] if v is not None else None for v in values]
    bars = {
        sign: [abs(v[end] - v["mean"]) if v is not None and v[end] is not None else 0.0 for v in values]  # type: ignore[literal-required]
        for sign, end in (("array", "high"), ("arrayminus", "low"))
    }
    error = {"type": "data", "symmetric": False, "thickness": 1, "width": 3, **bars}
    line = {"color": colour}
    return Scatter(
        x=list(layers), y=means, name=name, mode="lines+markers", line=line, error_y=error, legend=_legend(row)
    )


def _legend(row: int) -> str:
    """Plotly's name for the legend of a panel."""
    return "legend" if row == 1 else f"legend{row}"

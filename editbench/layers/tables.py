"""What ``editbench locate`` prints: one table for the trace, one for the sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from editbench.layers.sweep import CONTRAST, SECONDS, VALUE_FOUND

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from editbench.layers.sweep import LayerScore
    from editbench.layers.tracing import Trace
    from editbench.results.schema import Measure

TITLES = {
    "hidden.subject": "hidden state, subject's last token",
    "mlp.subject": "MLPs, subject's last token",
    "hidden.last": "hidden state, prompt's last token",
    "mlp.last": "MLPs, prompt's last token",
}
"""Kinds of restoration, as they are called in tables and plots."""


def trace_table(trace: Trace) -> Table:
    """Indirect effects by layer."""
    title = f"causal tracing: indirect effect by layer, {len(trace.records)} records"
    caption = (
        f"p(true answer): clean {figure(trace.clean)}, subject corrupted {figure(trace.corrupted)}; "
        f"total effect {figure(trace.total)}. MLPs restored together: {trace.window}. [95 % interval]"
    )
    table = Table("layer", title=title, caption=caption)
    for name in TITLES:
        table.add_column(TITLES[name], justify="right")
    for place, layer in enumerate(trace.layers):
        table.add_row(str(layer), *(figure(trace.indirect[name][place]) for name in TITLES))
    return table


def sweep_table(scores: Sequence[LayerScore], headline: Mapping[str, str]) -> Table:
    """Measures of single edits by layer."""
    edits = f"{max(score.edits for score in scores)} single edits"
    table = Table("layer", "score", title=f"sweep: ROME at one layer at a time, {edits}", caption=_caption(headline))
    names = [*headline.values(), CONTRAST, VALUE_FOUND, SECONDS]
    for name in [*headline, "NLL contrast", "values found", "seconds", "failed"]:
        table.add_column(name, justify="right")
    for score in scores:
        cells = [figure(score.measures.get(name), interval=name != SECONDS) for name in names]
        whole = "—" if score.score is None else f"{score.score:.3f}"
        table.add_row(str(score.layer), whole, *cells, str(len(score.failed) or ""))
    return table


def figure(measure: Measure | None, *, interval: bool = True) -> str:
    """A mean with its interval, or a dash where there is none."""
    if measure is None or measure["mean"] is None:
        return "—"
    low, high = measure["low"], measure["high"]
    return f"{measure['mean']:.3f}" + (f" [{low:.2f}, {high:.2f}]" if interval and low is not None else "")


def _caption(headline: Mapping[str, str]) -> str:
    said = ", ".join(f"{kind}: {name}" for kind, name in headline.items())
    return f"{said}; score: their harmonic mean. [95 % interval]"

"""A metric that editbench does not ship."""

from __future__ import annotations

from typing import TYPE_CHECKING

from editbench.evaluation.metrics import metric

if TYPE_CHECKING:
    from editbench.evaluation.metrics import ProbeAnswers


@metric(
    version=3,
    title="surprise in nats",
    range=None,
    higher_is_better=False,
    digits=1,
    seeds="max",
    tolerance=None,
    source="Shannon 1948",
)
def surprise(probe: ProbeAnswers) -> float | None:
    """Negative log-likelihood of the target: NLL(target)."""
    return probe.target.nll if probe.target.tokens else None

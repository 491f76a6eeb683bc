"""Which neurons a layer's update may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def select_neurons(keys: Tensor, threshold: float, selection: str) -> Tensor | None:
    """Neurons with the largest share of the edits' keys.

    The score of a neuron is Σ |K| over the edits. Sums are formed in float64: in float32 a threshold near 1 loses some.

    Args:
        keys: K (d_ff, n).
        threshold: p; 1 or more means all neurons.
        selection: "published": the longest prefix, by falling score, whose sum does not exceed p · total (it may be
            empty); "smallest": the shortest one whose sum reaches it.

    Returns:
        (|S|,) indices by falling score, or None for all neurons.
    """
    if threshold >= 1:
        return None
    scores, order = keys.double().abs().sum(1).sort(descending=True, stable=True)
    sums = scores.cumsum(0)
    bound = threshold * sums[-1]
    count = int((sums <= bound).sum()) if selection == "published" else int((sums < bound).sum()) + 1
    return order[:count]

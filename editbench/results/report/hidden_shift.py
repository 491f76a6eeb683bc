"""The report's picture of the hidden-state shift: two principal components of the states before and after the edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from editbench.files import ResultsError, read_tensors
from editbench.results.schema import HIDDEN_SHIFT_FILE

DIGITS = 4


def shift_of(folder: Path) -> dict[str, Any] | None:
    """States on the two axes of the largest variance of both together; None of a run that kept none, or damaged ones.

    "before" and "after" have the coordinates on the first axis and on the second, "shares" the axes' parts of the
    variance, "layer" is the layer whose output the states are.
    """
    file = folder / HIDDEN_SHIFT_FILE
    if not file.is_file():
        return None
    try:
        tensors, facts = read_tensors(file)
    except ResultsError:
        return None
    before, after = (tensors[name].double().numpy() for name in ("before", "after"))
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return None
    both = np.concatenate([before, after])
    centred = both - both.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    places = (centred @ axes[:2].T).T.round(DIGITS)  # (2, 2N)
    total = float((sizes**2).sum()) or 1.0
    parts = {"before": places[:, : len(before)].tolist(), "after": places[:, len(before) :].tolist()}
    return {**parts, "layer": facts["layer"], "shares": [round(float(s**2) / total, DIGITS) for s in sizes[:2]]}

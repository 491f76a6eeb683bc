"""95 % confidence intervals of means over records: of shares, functions of shares and other numbers, and over seeds.

A share (a measure whose numbers lie in [0, 1]) has Gaffke's interval: the 2.5 and 97.5 percentiles of 2,000 means with
random weights (Dirichlet, all ones) over the records and one additional record, the worst possible, 0, for the lower
end, and the best, 1, for the upper one. Records are weighted as a whole, which keeps the correlation between their
probes, their measures and two methods. It never leaves [0, 1], and has a width even if all records are equal.

Where all numbers are 0 or 1 this is the interval of Clopper and Pearson (1934): the weighted means are then Beta
variables. For numbers in between its coverage is a conjecture, which holds in simulations (`tests/coverage.py`).

Sources: Gaffke 2005, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
variable", Mathematical Methods of Statistics 14; Learned-Miller and Thomas 2019, "A new confidence interval for the
mean of a bounded random variable", arXiv:1905.06208. Without the additional record: Rubin 1981, "The Bayesian
bootstrap", Annals of Statistics 9.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from editbench.results.schema import SHARE, Range

Floats = NDArray[np.float64]

VERSION = 2
DRAWS = 2000
TAIL = 0.025  # outside each end
_BLOCK = 2**22  # numbers drawn at once: bounds the memory


class Drawn(NamedTuple):
    """Means of M measures with random weights, (M, DRAWS) each; NaN where a measure has no number."""

    low: Floats  # with the lowest possible number as an additional record
    high: Floats  # with the highest possible number


def drawn_means(values: Floats, seed: int, within: Range = SHARE) -> Drawn:
    """Means of values (R, M), records by measures, with random weights; NaN where a record has no number.

    The weights depend on the seed and the number of records only, so that measures and methods on the same records are
    weighted alike. A function f that grows with every mean has the ends `ends(f(low), f(high), f(means))`.
    """
    records, width = values.shape
    present = np.isfinite(values)
    counted, filled = present.T.astype(np.float64), np.where(present, values, 0.0).T
    drawn = Drawn(np.empty((width, DRAWS)), np.empty((width, DRAWS)))
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // (records + 1))
    for start in range(0, DRAWS, block):
        at = slice(start, min(start + block, DRAWS))
        one_more, weights = np.split(rng.standard_exponential((at.stop - start, records + 1)).T, [1])
        total = one_more + (weights.sum(axis=0) if present.all() else counted @ weights)
        known, share = filled @ weights, one_more / total
        known /= total
        for means, extreme in zip(drawn, within, strict=True):
            np.add(known, extreme * share, out=means[:, at])
    for means in drawn:
        np.clip(means, *within, out=means)  # rounding
        means[~present.any(axis=0)] = np.nan
    return drawn


def weighted_means(values: Floats, seed: int) -> Floats:
    """(M, 1 + DRAWS) means of values (R, M): the plain ones, then those with random weights (Dirichlet, all ones).

    NaN where no record has a number. The weights depend on the seed and the number of records only.
    """
    present, rng = np.isfinite(values), np.random.default_rng(seed)
    counted, filled = present.T.astype(np.float64), np.where(present, values, 0.0).T
    found, block = np.empty((values.shape[1], 1 + DRAWS)), max(1, _BLOCK // max(1, len(values)))
    with np.errstate(invalid="ignore"):
        found[:, 0] = filled.sum(axis=1) / counted.sum(axis=1)
        for start in range(1, 1 + DRAWS, block):
            weights = rng.standard_exponential((min(block, 1 + DRAWS - start), len(values))).T
            found[:, start : start + block] = (filled @ weights) / (counted @ weights)
    return found


def ends(low: Floats, high: Floats, figure: ArrayLike) -> Floats:
    """Lower and upper ends, (2, ...), from a figure's values with random weights, (..., DRAWS); NaN stays NaN."""
    below, above = np.quantile(low, TAIL, axis=-1), np.quantile(high, 1 - TAIL, axis=-1)
    return np.stack([np.minimum(below, figure), np.maximum(above, figure)])  # rounding: the figure lies within


def unbounded(values: Floats) -> Floats:
    """Student's t interval, (2, M), of means of numbers (R, M) of any size; NaN of equal or single numbers."""
    count = np.isfinite(values).sum(axis=0)
    spread = np.full(values.shape[1], np.nan)
    spread[count > 1] = np.nanstd(values[:, count > 1], axis=0, ddof=1)
    mean = np.nansum(values, axis=0) / np.maximum(count, 1)
    return _around(mean, spread / np.sqrt(np.maximum(count, 1)), count - 1)


def of_items(mean: float, error: float, n: int, within: Range | None) -> Floats:
    """Ends (2,) for a mean over n items from its standard error.

    With a range: the interval of Clopper and Pearson for as many items as would have this standard error by themselves,
    but at most n. Source: Korn and Graubard 1998, "Confidence intervals for proportions with small expected number of
    positive counts estimated from survey data", Survey Methodology 24. Without a range: Student's.
    """
    if within is None:
        return _around(np.array(mean), np.array(error), n - 1)
    from scipy.special import betaincinv

    lowest, width = within[0], within[1] - within[0]
    rate = min(max((mean - lowest) / width, 0.0), 1.0)
    middle = (rate * n + 1) / (n + 2)  # never 0 or 1, where a standard error says nothing
    count = min(n, middle * (1 - middle) * (width / error) ** 2) if error else n
    right, wrong = rate * count, (1 - rate) * count
    low = betaincinv(right, wrong + 1, TAIL) if right else 0.0
    high = betaincinv(right + 1, wrong, 1 - TAIL) if wrong else 1.0
    return np.array([lowest + width * low, lowest + width * high])


def over_seeds(means: ArrayLike, lows: ArrayLike, highs: ArrayLike, within: Range | None) -> Floats:
    """Ends (2, ...) for the means (S, ...) of S ≥ 2 runs of different seeds, from each run's own ends (S, ...).

    The runs may be of the same records. So the mean over seeds is taken to be as uncertain as one run is over its
    records, and the variance between the runs is added, for each end apart, with the degrees of freedom of
    Satterthwaite (1946). Source: Zou and Donner 2008, "Construction of confidence limits about effect measures",
    Statistics in Medicine 27. A run without an interval has NaN ends, and then so has the mean.
    """
    figures = np.asarray(means, dtype=np.float64)
    runs = len(figures)
    interval = np.stack([np.asarray(side, dtype=np.float64).mean(axis=0) for side in (lows, highs)])
    return with_spread(np.mean(figures, axis=0), interval, np.var(figures, axis=0, ddof=1) / runs, runs - 1, within)


def with_spread(figure: Floats, interval: Floats, variance: Floats, freedom: float, within: Range | None) -> Floats:
    """The ends (2, ...) of a figure's interval (2, ...) with more variance (...), of these degrees of freedom."""
    own = ((interval - figure) / t_quantile(np.inf)) ** 2
    total = own + variance
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = np.where(variance > 0, freedom * (total / variance) ** 2, np.inf)
    reach = t_quantile(shared) * np.sqrt(total)
    found = np.stack([figure - reach[0], figure + reach[1]])
    return found if within is None else np.clip(found, *within)


def t_quantile(freedom: ArrayLike) -> Floats:
    """The 0.975 quantile of Student's t with these degrees of freedom; with infinitely many, of the normal."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(np.minimum(freedom, 1e9), 1 - TAIL), dtype=np.float64)


def _around(mean: Floats, error: Floats, freedom: ArrayLike) -> Floats:
    """Student's interval, (2, ...); NaN where there is no standard error, or one of 0."""
    error = np.where((error > 0) & (np.asarray(freedom) > 0), error, np.nan)
    half = t_quantile(np.maximum(freedom, 1)) * error
    return np.stack([mean - half, mean + half])

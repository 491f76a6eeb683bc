"""How often intervals hold the truth: simulated records, the intervals that the results would have, and the table.

    python -m tests.coverage 2000

prints worst coverage and mean width over the whole grid with so many repetitions a cell. Two models of a record's
probes, both with the correlation of the cell within a record:

- copies: a record has a latent uniform number; a probe copies its outcome with probability √correlation. Several
  measures, methods or seeds look at the same latent number, in 9 of 10 records; in every other repetition in none, as
  if seeds drew other records.
- beta-binomial: a record has a rate of its own.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from itertools import product

import numpy as np

from editbench.results.intervals import drawn_means, ends, over_seeds
from editbench.results.schema import SHARE
from editbench.results.summary import harmonic_mean

RATES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
RECORDS = (30, 100, 300, 1000)
PROBES = ((1, 0.0), (2, 0.0), (2, 0.5), (2, 0.9), (10, 0.0), (10, 0.5), (10, 0.9))
"""Probes a record, and their correlation within it; a single probe has none."""
SEEDS = 5
SPREAD = 400
"""In half of the repetitions seeds differ in their rate, as means of so many records would: by .025 at a rate of .5."""


def copies(rng, latent, rate, probes, correlation):
    """Shares within records (R, N); `latent` (R, N) uniform numbers, `rate` (N,)."""
    same = rng.random(latent.shape) < np.where(np.arange(latent.shape[1]) % 2, 0.0, 0.9)
    right = np.where(same, latent, rng.random(latent.shape)) < rate
    copied = rng.binomial(probes, correlation**0.5, size=latent.shape) if correlation else 0
    return (copied * right + rng.binomial(probes - copied, rate, size=latent.shape)) / probes


def beta_binomial(rng, shape, rate, probes, correlation):
    """Shares within records (R, N)."""
    if not correlation:
        return rng.binomial(probes, rate, size=shape) / probes
    total = (1 - correlation) / correlation
    return rng.binomial(probes, rng.beta(rate * total, (1 - rate) * total, size=shape)) / probes


def simulate(records, probes, correlation, rate, repetitions, seed):
    """What `_judged` says of the intervals in a cell, by what they are of.

    Runs 0 to 4 are of seeds, whose rates are one, or differ a little; run 5 has one probe a record; run 6 has another
    rate (that as far from the other end of `RATES`) and beta-binomial records. All but the last are on the same
    records.
    """
    rng = np.random.default_rng([seed, records, probes, int(10 * correlation), int(100 * rate)])
    rates = np.full((SEEDS + 2, repetitions), rate)
    rates[:SEEDS, repetitions // 2 :] = rng.beta(
        rate * SPREAD, (1 - rate) * SPREAD, size=(SEEDS, repetitions - repetitions // 2)
    )
    rates[-1] = RATES[-1 - RATES.index(rate)]
    latent = rng.random((records, repetitions))
    runs = [copies(rng, latent, rates[run], probes, correlation) for run in range(SEEDS)]
    runs += [copies(rng, latent, rates[-2], 1, 0.0)]
    runs += [beta_binomial(rng, latent.shape, rates[-1], probes, correlation)]
    drawn = drawn_means(np.hstack(runs), seed=0)
    means = np.hstack(runs).mean(axis=0).reshape(SEEDS + 2, repetitions)
    low, high = (part.reshape(SEEDS + 2, repetitions, -1) for part in drawn)
    single = ends(low, high, means)
    three = [0, -2, -1]  # different rates, probes and models
    score, low_score, high_score = (harmonic_mean(np.moveaxis(x[three], 0, -1)) for x in (means, low, high))
    found = {
        "mean": (single[:, [0, -2, -1]], rates[[0, -2, -1]]),
        "score": (ends(low_score, high_score, score), harmonic_mean(rates[three].T)),
        "difference near 0": (ends(low[0] - high[1], high[0] - low[1], means[0] - means[1]), rates[0] - rates[1]),
        "difference": (ends(low[0] - high[-1], high[0] - low[-1], means[0] - means[-1]), rates[0] - rates[-1]),
    }
    for seeds in (3, 5):
        found[f"{seeds} seeds"] = (over_seeds(means[:seeds], *single[:, :seeds], SHARE), np.full(repetitions, rate))
    return {what: _judged(interval, truth) for what, (interval, truth) in found.items()}


def _judged(interval, truth):
    """Coverage, mean width, the least and the greatest end, and the least width."""
    low, high = interval
    return np.mean((low <= truth) & (truth <= high)), np.mean(high - low), np.min(low), np.max(high), np.min(high - low)


def table(repetitions, seed=0):
    """By what the interval is of and the number of records: coverage, mean width and name of each cell."""
    rows = defaultdict(list)
    for records, (probes, correlation), rate in product(RECORDS, PROBES, RATES):
        for what, (coverage, width, *_) in simulate(records, probes, correlation, rate, repetitions, seed).items():
            rows[what, records].append((coverage, width, f"{probes} probes, ρ {correlation}, rate {rate}"))
    return rows


def main(repetitions):
    """Print the table as Markdown; whether every cell reaches .93."""
    print("| interval of | records | worst coverage | in the cell | mean coverage | mean width |")
    print("|---|---|---|---|---|---|")
    found = table(repetitions)
    for (what, records), cells in found.items():
        worst = min(cells)
        coverage, width = np.mean([cell[:2] for cell in cells], axis=0)
        print(f"| {what} | {records} | {worst[0]:.3f} | {worst[2]} | {coverage:.3f} | {width:.3f} |")
    return min(coverage for cells in found.values() for coverage, *_ in cells) >= 0.93


if __name__ == "__main__":
    sys.exit(not main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))

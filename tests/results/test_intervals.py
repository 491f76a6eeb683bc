"""Intervals hold the truth as often as they say, near 0 and 1 too; `python -m tests.coverage` prints the table."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from editbench.results.intervals import drawn_means, ends, of_items, over_seeds, t_quantile, unbounded
from editbench.results.schema import SHARE
from tests.coverage import PROBES, RATES, RECORDS, simulate

LEAST = 0.93
REPETITIONS = 100


def gaffke(values):
    """The interval (2, M) of the means of shares (R, M)."""
    return ends(*drawn_means(values, 0), values.mean(axis=0))


@pytest.mark.slow
@pytest.mark.parametrize("records", RECORDS)
def test_coverage_over_the_whole_grid(records, capsys):
    """No cell is below .93 beyond chance, and the cells together are above the level, with a width, in bounds."""
    found: dict[str, list] = {}
    for (probes, correlation), rate in product(PROBES, RATES):
        for what, cell in simulate(records, probes, correlation, rate, REPETITIONS, seed=1).items():
            found.setdefault(what, []).append(cell)
    by_chance = stats.binom.ppf(1e-3, REPETITIONS, LEAST) / REPETITIONS
    with capsys.disabled():
        print()
        for what, cells in found.items():
            coverage, width, low, high, least = np.array(cells).T
            print(f"{records} records, {what}: coverage {coverage.mean():.3f}, mean width {width.mean():.3f}")
            assert coverage.min() >= by_chance and coverage.mean() >= 0.945
            assert low.min() >= (-1 if "difference" in what else 0) and high.max() <= 1 and least.min() > 0
            assert width.mean() < 2.2 / records**0.5  # a share of one probe has 4 standard errors: at .5, 2 / √R


def test_of_ones_and_zeros_it_is_the_interval_of_clopper_and_pearson():
    for right in (0, 1, 40, 99, 100):
        low, high = gaffke(np.repeat([1.0, 0.0], [right, 100 - right])[:, None])
        expected = stats.binomtest(right, 100).proportion_ci(method="exact")
        assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=0.008)


def test_exact_coverage_of_single_probes():
    """By summation over all outcomes, without a simulation."""
    for records in (30, 50, 300):
        right = np.arange(records + 1)
        low, high = gaffke((np.arange(records)[:, None] < right).astype(float))
        for rate in (*RATES, 0.01, 0.2):
            holds = (low <= rate) & (rate <= high)
            assert stats.binom.pmf(right, records, rate)[holds].sum() >= 0.94


def test_missing_numbers_are_no_records():
    values = np.array([[1.0, np.nan], [0.5, 0.5], [1.0, np.nan], [1.0, 1.0]])
    few = gaffke(np.array([[0.5], [1.0]]))
    low, high = ends(*drawn_means(values, 0), [0.875, 0.75])
    assert (low[1], high[1]) == pytest.approx(few[:, 0], abs=0.03)
    assert np.isnan(drawn_means(np.full((3, 1), np.nan), 0).low).all()


def test_the_quantiles_are_those_of_the_tables():
    found = t_quantile([1, 2, 3, 4, 9, 30, 100, np.inf])
    assert found == pytest.approx([12.7062, 4.30265, 3.18245, 2.77645, 2.26216, 2.04227, 1.98397, 1.95996], abs=1e-4)


def test_numbers_of_any_size_have_students_interval():
    values = np.array([[1.0, 3.0, np.nan, np.nan], [2.0, 3.0, 5.0, np.nan], [6.0, 3.0, np.nan, np.nan]])
    low, high = unbounded(values)
    half = 4.30265 * values[:, 0].std(ddof=1) / 3**0.5
    assert (low[0], high[0]) == pytest.approx((3 - half, 3 + half), abs=1e-4)
    assert np.isnan([low[1:], high[1:]]).all()  # all alike, but one, none


@pytest.mark.parametrize("error", [0.0, 1 / 122, 0.005])
def test_of_items_that_are_all_right_the_interval_is_that_of_so_many(error):
    low, high = of_items(1.0, error, 120, SHARE)
    assert (low, high) == (pytest.approx(0.025 ** (1 / 120), abs=1e-3), 1.0)
    assert of_items(1.0, error, 120, (-1.0, 1.0))[0] == pytest.approx(2 * 0.025 ** (1 / 120) - 1, abs=0.09)


def test_of_items_follows_the_standard_error_but_claims_no_more_items_than_there_are():
    rate, n = 0.9, 200
    exact = stats.binomtest(180, n).proportion_ci(method="exact")
    for error in (0.01, (rate * (1 - rate) / n) ** 0.5):
        assert of_items(rate, error, n, SHARE) == pytest.approx((exact.low, exact.high), abs=2e-3)
    low, high = of_items(rate, 0.05, n, SHARE)  # items that go together
    assert high - low == pytest.approx(4 * 0.05, abs=0.03) and 0 < low < high < 1
    assert np.isnan(of_items(12.0, 0.0, n, None)).all()


@pytest.mark.parametrize("within", [SHARE, (-1.0, 1.0), (2.0, 6.0)])
@pytest.mark.parametrize("n", [1, 3, 40])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.8, 1.0])
def test_of_items_is_clopper_and_pearson_s_interval_for_so_many_items(rate, n, within):
    lowest, width = within[0], within[1] - within[0]
    middle = (rate * n + 1) / (n + 2)
    for error in (0.0, 0.01 * width, 0.2 * width):
        count = n if error == 0 else min(n, middle * (1 - middle) / (error / width) ** 2)
        low = stats.beta.ppf(0.025, rate * count, (1 - rate) * count + 1) if rate else 0.0
        high = stats.beta.ppf(0.975, rate * count + 1, (1 - rate) * count) if rate < 1 else 1.0
        found = of_items(lowest + width * rate, error, n, within)
        assert found == pytest.approx((lowest + width * low, lowest + width * high), abs=1e-9)


def test_a_mean_that_rounding_has_put_outside_its_range_is_its_end():
    assert of_items(1.0000000000000002, 0.0, 3, SHARE).tolist() == of_items(1.0, 0.0, 3, SHARE).tolist()
    assert of_items(-1e-17, 0.0, 3, SHARE).tolist() == of_items(0.0, 0.0, 3, SHARE).tolist()


def test_of_items_of_any_size_is_student_s_interval():
    half = stats.t.ppf(0.975, 9) * 0.5
    assert of_items(12.0, 0.5, 10, None) == pytest.approx((12 - half, 12 + half))
    assert np.isnan(of_items(12.0, 0.5, 1, None)).all()
    three = stats.t.ppf(0.975, 2) / 3**0.5
    assert unbounded(np.array([[4.0], [5.0], [6.0]]))[:, 0] == pytest.approx((5 - three, 5 + three))
    assert np.isnan(unbounded(np.array([[4.0]]))).all()


def test_seeds_on_the_same_records_are_no_surer_than_one_and_their_spread_counts():
    assert over_seeds([1.0] * 5, [0.9] * 5, [1.0] * 5, SHARE) == pytest.approx([0.9, 1.0])
    low, high = over_seeds([0.5, 0.7, 0.9], [0.5, 0.7, 0.9], [0.5, 0.7, 0.9], None)  # but for the spread, certain
    half = 4.30265 * 0.2 / 3**0.5
    assert (low, high) == pytest.approx((0.7 - half, 0.7 + half), abs=1e-5)
    assert np.isnan(over_seeds([0.5, 0.6], [np.nan, 0.5], [0.6, 0.7], SHARE)[0])

"""The nearest row is the one of all differences, to the bit, whatever a product rounds."""

import pytest
import torch

from editbench.memory_based import nearest_rows as module
from editbench.memory_based.nearest_rows import nearest_rows


def by_all_differences(queries, rows):
    distances = torch.cdist(queries.to(rows), rows, compute_mode="donot_use_mm_for_euclid_dist")
    return [(int(row.argmin()), float(row.min())) for row in distances]


def matrices(case, dtype):
    drawn = torch.Generator().manual_seed(len(case))

    def normal(*shape):
        return torch.randn(*shape, generator=drawn, dtype=torch.float64)

    rows, queries = normal(900, 48), normal(7, 48)
    if case == "far from zero":  # a product's rounding is larger than the distances
        rows, queries = 1e4 + 1e-3 * rows, 1e4 + 1e-3 * queries
    elif case == "twice":  # of equal rows the first
        rows[450:] = rows[:450]
    elif case == "hits":
        queries = rows[[3, 899, 512, 0, 77, 600, 601]].clone()
    elif case == "of all sizes":
        rows *= 10.0 ** torch.arange(900, dtype=torch.float64).remainder(9)[:, None]
    return queries.to(dtype), rows.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["plain", "far from zero", "twice", "hits", "of all sizes"])
def test_the_nearest_is_that_of_all_differences(case, dtype, monkeypatch):
    queries, rows = matrices(case, dtype)
    expected = by_all_differences(queries, rows)
    assert nearest_rows(queries, rows) == expected
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 2000)  # two queries at a time
    assert nearest_rows(queries, rows) == expected
    assert nearest_rows(queries, rows[:5]) == by_all_differences(queries, rows[:5])


def test_few_differences_are_taken(monkeypatch):
    queries, rows = matrices("plain", torch.float32)
    sizes = []
    least = module._least
    monkeypatch.setattr(module, "_least", lambda q, r: sizes.append(len(r)) or least(q, r))
    nearest_rows(queries, rows)
    assert len(sizes) == len(queries) and max(sizes) < 5


def test_a_query_that_is_not_finite_has_what_all_differences_give():
    queries, rows = matrices("plain", torch.float32)
    queries[2, 5] = torch.nan
    found = nearest_rows(queries, rows)
    assert found[2][1] != found[2][1] and found[:2] == by_all_differences(queries[:2], rows)

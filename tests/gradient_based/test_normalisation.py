"""Running statistics beside those of all rows together."""

import pytest
import torch

from editbench.gradient_based.normalisation import EPSILON, Normaliser


@pytest.mark.parametrize("parts", [[40], [1, 39], [1, 1, 1, 37], [13, 13, 14]])
def test_parts_give_the_mean_and_spread_of_all(parts):
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 1
    found = Normaliser.empty(rows)
    for part in rows.split(parts):
        found.add(part, published=False)
    assert found.count == 40
    assert torch.allclose(found.mean, rows.mean(0), rtol=1e-12)
    assert torch.allclose(found.spread, rows.std(0), rtol=1e-6)
    assert torch.allclose(found.normalise(rows), (rows - rows.mean(0)) / (rows.std(0) + EPSILON), rtol=1e-6)


def test_the_published_merge_counts_too_much_and_one_row_destroys_it():
    rows = torch.arange(12.0).reshape(4, 3)
    exact, published = (Normaliser.empty(rows) for _ in range(2))
    exact.add(rows, published=False)
    published.add(rows, published=True)
    assert torch.allclose(published.squares, exact.squares * 4 / 3)
    published.add(rows[:1], published=True)
    assert bool(published.squares.isnan().all())


def test_a_copy_is_not_changed_and_tensors_give_the_same_bits():
    rows = torch.randn(5, 3)
    first = Normaliser.empty(rows)
    first.add(rows, published=False)
    second = Normaliser.of(first.tensors(), rows)
    assert torch.equal(second.spread, first.spread) and second.count == 5
    before = {name: tensor.clone() for name, tensor in first.tensors().items()}
    first.copy().add(rows, published=False)
    assert all(torch.equal(before[name], tensor) for name, tensor in first.tensors().items())

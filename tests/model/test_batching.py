"""Batches: grouping saves padding, and some of the rows can be kept."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from editbench.model.batching import ByRow, PaddedBatch, batches, partition

CPU = torch.device("cpu")


def test_partition_saves_padding_when_that_pays():
    assert partition([2] * 100 + [8] * 100, CPU) == [list(range(100)), list(range(100, 200))]
    assert partition([2, 8, 3], CPU) == [[0, 1, 2]]
    assert sorted(i for part in partition([5, 1, 900, 4, 70], CPU, most=100) for i in part) == [0, 1, 2, 3, 4]
    assert [len(part) for part in partition([10] * 25, CPU, most=100)] == [10, 10, 5]


@pytest.mark.parametrize("longest_first", [True, False])
def test_batches_hold_rows_of_similar_width_within_the_budget(longest_first):
    rows = ["aa", "bbbbb", "c", "dd", "eeeee", "f" * 30, ""]
    found = list(batches(rows, 10, width=len, longest_first=longest_first))
    assert sorted(row for batch in found for row in batch) == sorted(rows)
    assert all(len(batch) * max(map(len, batch)) <= 10 or len(batch) == 1 for batch in found)
    widths = [len(row) for batch in found for row in batch]
    assert widths == sorted(widths, reverse=longest_first)
    assert ["bbbbb", "eeeee"] in found  # rows of one width keep their order


@dataclass(frozen=True)
class Measured(ByRow):
    """Every kind of field."""

    shared: ClassVar[frozenset[str]] = frozenset({"layer"})

    layer: int
    names: list[str]
    numbers: torch.Tensor
    by_layer: dict[int, torch.Tensor]
    batch: PaddedBatch
    nothing: None = None


def test_some_of_the_rows_can_be_kept():
    batch = PaddedBatch.pad([[1, 2], [3], [4, 5, 6]], [1, 0, 2], 0, CPU)
    whole = Measured(7, ["a", "b", "c"], torch.arange(3), {1: torch.eye(3)}, batch)
    some = whole.select(torch.tensor([2, 0]))
    assert (some.layer, some.names, some.nothing) == (7, ["c", "a"], None)
    assert some.numbers.tolist() == [2, 0]
    assert torch.equal(some.by_layer[1], torch.eye(3)[[2, 0]])
    assert some.batch.ids.tolist() == [[4, 5, 6], [0, 1, 2]]
    assert some.batch.mask.tolist() == [[1, 1, 1], [0, 1, 1]]
    assert batch.select(torch.tensor([True, False, True])).positions.tolist() == [[0, 0, 1], [0, 1, 2]]

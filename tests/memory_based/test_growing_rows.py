"""A matrix that grows row by row, and loses rows in the middle."""

import pytest
import torch

from editbench.memory_based import growing_rows
from editbench.memory_based.growing_rows import GrowingRows

SIZE = 5


def test_rows_grow_by_doubling_and_are_as_if_joined():
    rows, joined, memories = GrowingRows(torch.empty(0, SIZE)), torch.empty(0, SIZE), set()
    for i in range(300):
        row = torch.full((SIZE,), float(i))
        rows.append(row)
        joined = torch.cat([joined, row[None]])
        memories.add(rows.filled.untyped_storage().data_ptr())
        assert rows.filled.is_contiguous()
    assert torch.equal(rows.filled, joined) and len(memories) <= 4  # 64, 128, 256, 512


@pytest.mark.parametrize("at", [0, 1, 30, 98, 99])
def test_deleting_a_row_moves_the_others_up(at, monkeypatch):
    monkeypatch.setattr(growing_rows, "MOVE_ROWS", 7)
    rows, given = GrowingRows(torch.empty(0, SIZE)), torch.randn(100, SIZE)
    for row in given:
        rows.append(row)
    rows.delete(at)
    assert torch.equal(rows.filled, given[[i for i in range(100) if i != at]])


@pytest.mark.parametrize("at", [0, 1, 63, 64, 99, 100])
def test_inserting_a_row_moves_the_others_down(at):
    rows, given, new = GrowingRows(torch.empty(0, SIZE)), torch.randn(100, SIZE), torch.randn(SIZE)
    for row in given:
        rows.append(row)
    rows.insert(at, new)
    assert torch.equal(rows.filled, torch.cat([given[:at], new[None], given[at:]]))

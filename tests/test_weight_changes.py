"""Changes to weights: to tensors and back, and added in parts."""

import torch

from editbench import weight_changes
from editbench.weight_changes import Dense, LowRank, from_tensors, in_chunks, to_cpu, to_tensors

LOW = LowRank("a", torch.arange(6.0).reshape(3, 2), torch.ones(4, 2))
DENSE = Dense("b", torch.full((3, 4), 0.5))


def test_changes_come_back_from_their_tensors():
    tensors, kinds = to_tensors([LOW, DENSE])
    assert list(tensors) == ["0000.left", "0000.right", "0001.delta"]
    assert kinds == [{"kind": "LowRank", "weight": "a"}, {"kind": "Dense", "weight": "b"}]
    low, dense = from_tensors(tensors, {"changes": kinds})
    assert (low.weight, dense.weight) == ("a", "b")
    assert (
        torch.equal(low.left, LOW.left) and torch.equal(low.right, LOW.right) and torch.equal(dense.delta, DENSE.delta)
    )


def test_a_copy_does_not_follow():
    change = Dense("b", torch.zeros(2, 2))
    copy = to_cpu(change)
    change.delta.add_(1)
    assert copy.weight == "b" and not copy.delta.any()


def test_parts_of_a_low_rank_change_are_its_product(monkeypatch):
    monkeypatch.setattr(weight_changes, "CHUNK_NUMBERS", 8)  # two rows of four
    target = torch.zeros(3, 4)
    parts = list(in_chunks(LOW, target))
    assert [tuple(added.shape) for _, added in parts] == [(2, 4), (1, 4)]
    for view, added in parts:
        view += added
    assert torch.equal(target, LOW.left @ LOW.right.T)

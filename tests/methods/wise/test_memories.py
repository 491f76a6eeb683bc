"""Shards fill, merge, and survive their way to disk."""

import pytest
import torch

from editbench.memory_based.projection import SECOND, Projection
from editbench.methods.wise import WISEConfig
from editbench.methods.wise.memories import Memories
from tests.small_runs import same
from tests.tiny_models import tiny_lm

AT = Projection.of(tiny_lm(), 1, SECOND)
CPU = torch.device("cpu")


def delta(fill):
    found = torch.zeros(AT.d_out, AT.d_in)
    found[fill, : fill + 1] = float(fill + 1)
    return found


def after(count, **settings):
    config = WISEConfig(save_every=2, merge_every=4, density=1.0, **settings)
    found = [Memories()]
    for i in range(count):
        found.append(found[-1].with_edit(f"edit {i}", delta(i), 10.0 - i, config))
    return found


def edits(memories):
    return [[int(id.split()[1]) for id in one.edits] for one in memories.all]


def test_shards_and_merges():
    found = after(9)
    assert [edits(one) for one in found] == [
        [],
        [[0]],
        [[0, 1]],
        [[0, 1], [2]],
        [[0, 1, 2, 3]],
        [[0, 1, 2, 3], [4]],
        [[0, 1, 2, 3], [4, 5]],
        [[0, 1, 2, 3], [4, 5], [6]],
        [[0, 1, 2, 3], [4, 5, 6, 7]],
        [[0, 1, 2, 3], [4, 5, 6, 7], [8]],
    ]
    assert [one.minimum for one in found[9].all] == [7.0, 3.0, 2.0]
    assert found[2].open is None and found[3].open is not None
    assert torch.equal(found[1].all[0].delta.delta(torch.float32), delta(0))
    merged = found[4].stored[0].delta.delta(torch.float32)  # of the shards after edits 1 and 3
    assert torch.equal(merged, delta(1) + delta(3))
    assert len({one.name for some in found for one in some.all}) == 7 + 2  # no name twice for two contents


def test_merge_into_one():
    found = after(8, variant="merge", old_weight=0.5)
    assert edits(found[7]) == [[0, 1, 2, 3], [4, 5], [6]] and edits(found[8]) == [[0, 1, 2, 3, 4, 5, 6, 7]]
    (merged,) = found[8].all
    assert merged.minimum == 3.0
    assert torch.equal(merged.delta.delta(torch.float32), sum(delta(i) for i in (1, 3, 5, 7)))  # each number in one


@pytest.mark.parametrize("store", ["dense", "sparse"])
def test_entries_and_states(store):
    found, known = after(9, memory_store=store), Memories()
    for before, now in zip(found, found[1:], strict=False):
        entry = now.entry(before.all)
        assert len(entry.metadata["new"]) == 1 and entry.metadata["count"] == now.count
        known = known.after(entry, CPU)
        assert same(known.state(), now.state())
    back = Memories.of_state(found[9].state(), AT, CPU)
    assert same(back.state(), found[9].state()) and edits(back) == edits(found[9])
    assert Memories.of_state({}, AT, CPU) == Memories() and Memories().state() == {}
    with pytest.raises(ValueError, match="not the state of side memories"):
        Memories.of_state({"facts": torch.zeros(3, dtype=torch.uint8)}, AT, CPU)
    with pytest.raises(ValueError, match="of another projection"):
        Memories.of_state(found[9].state(), Projection(0, AT.module, "w", 7, 7), CPU)


def test_a_sparse_store_is_smaller():
    sizes = [sum(t.nbytes for t in after(1, memory_store=store)[1].tensors()) for store in ("dense", "sparse")]
    assert sizes == [32 * 48 * 4, 4 + 32 * 48 // 8 + 16]


@pytest.mark.parametrize("variant", ["retrieve", "merge"])
def test_one_shard_is_merged_as_several_are(variant):
    config = WISEConfig(save_every=2, merge_every=2, density=0.1, variant=variant)
    change = torch.arange(1.0, AT.d_out * AT.d_in + 1).reshape(AT.d_out, AT.d_in)
    found = Memories().with_edit("a", change, 1.0, config).with_edit("b", change, 1.0, config)
    (merged,) = found.stored
    kept = int(0.1 * change.numel())
    assert torch.equal(merged.delta.delta(torch.float32), change * (change > change.numel() - kept))

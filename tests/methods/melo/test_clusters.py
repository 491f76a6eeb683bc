"""The index, by hand: keys on a line."""

import pytest
import torch

from editbench.methods.melo.clusters import Change, Index, Point


def point(edit, at, block=0):
    return Point(edit, f"prompt of {edit}", torch.tensor([3.0, at]), block)


def index():
    found = Index()
    found.apply(Change("add", -1, (1,), 1, 2.0), point("a", 0.0))
    found.apply(Change("join", 0, (1,), 1, least=2.0), point("b", 1.0, 1))
    found.apply(Change("add", -1, (2,), 2, 2.0), point("c", 10.0, 2))
    return found


def edits(cluster):
    return [one.edit for one in cluster.points]


def test_a_cluster_that_is_joined_moves_and_grows():
    found = index()
    assert found.clusters[0].centre.tolist() == [3.0, 0.5] and found.clusters[0].radius == 2.0
    found.apply(Change("join", 0, (1,), 1, least=2.0, margin=0.5), point("d", 8.0))
    assert found.clusters[0].centre.tolist() == [3.0, 3.0]
    assert found.clusters[0].radius == pytest.approx(5.0 * 1.5)
    assert edits(found.clusters[0]) == ["a", "b", "d"]


def test_a_split_forgets_points_outside():
    found = index()
    found.apply(Change("split", 0, (9,), 9, 1.0, 0.4), point("d", 1.9))
    assert edits(found.clusters[0]) == [] and found.clusters[0].radius == 0.4
    assert edits(found.clusters[2]) == ["d"] and found.clusters[2].radius == 1.0
    (one, _), (other, _) = found.find(torch.tensor([[3.0, 0.5], [3.0, 1.8]]))
    assert one is None and other.edit == "d"  # an empty cluster answers with the base model


def test_lookups():
    found = index()
    keys = torch.tensor([[3.0, 0.2], [3.0, 0.8], [3.0, 2.4], [3.0, 2.6], [3.0, 9.0]])
    answers = found.find(keys)
    assert [one and (one.edit, one.block) for one, _ in answers] == [("a", 0), ("b", 1), ("b", 1), None, ("c", 2)]
    assert [inside for _, inside in answers] == pytest.approx([1.7, 1.7, 0.1, -0.1, 1.0], abs=1e-5)
    assert found.edits_of(2) == ["c"]


def test_dropped_edits_leave_before_the_new_point_comes():
    found, copy = index(), index().copy()
    found.apply(Change("add", -1, (5,), 5, 1.0, dropped=("a", "c")), point("e", 0.0))
    assert [edits(one) for one in found.clusters] == [["b"], ["e"]]
    assert [edits(one) for one in copy.clusters] == [["a", "b"], ["c"]]


def test_a_change_survives_its_way_to_disk():
    change = Change("split", 3, (1, 2), 3, 0.5, 0.25, dropped=("x",))
    assert Change.of(change.metadata()) == change

"""The index, by hand: keys on a line; and beside a plain one."""

import random

import pytest
import torch

from editbench.methods.melo.clusters import NO_BLOCK, Change, Point
from editbench.methods.melo.index import Index


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


def test_a_cluster_that_a_published_split_empties_keeps_a_point_of_no_block():
    """At its centre: it is asked, answers nothing, and counts where an edit joins."""
    found = index()
    found.apply(Change("split", 0, (9,), 9, 1.0, 0.4, refilled=True), point("d", 1.9))
    (placeholder,) = found.clusters[0].points
    assert placeholder.block == NO_BLOCK and placeholder.key.tolist() == [3.0, 0.5]
    ((answer, inside),) = found.find(torch.tensor([[3.0, 0.5]]))
    assert answer is None and inside == pytest.approx(0.4)
    assert found.edits_with(("block", NO_BLOCK), ("edit", ""), ("prompt", "")) == []
    found.apply(Change("join", 0, (1,), 1, least=0.4), point("e", 0.1))
    assert found.clusters[0].centre.tolist() == pytest.approx([3.0, 0.3])


def test_lookups():
    found = index()
    keys = torch.tensor([[3.0, 0.2], [3.0, 0.8], [3.0, 2.4], [3.0, 2.6], [3.0, 9.0]])
    answers = found.find(keys)
    assert [one and (one.edit, one.block) for one, _ in answers] == [("a", 0), ("b", 1), ("b", 1), None, ("c", 2)]
    assert [inside for _, inside in answers] == pytest.approx([1.7, 1.7, 0.1, -0.1, 1.0], abs=1e-5)
    assert found.edits_with(("block", 2)) == ["c"]


def test_dropped_edits_leave_before_the_new_point_comes():
    found = index()
    left = found.apply(Change("add", -1, (5,), 5, 1.0, dropped=("a", "c")), point("e", 0.0))
    assert [edits(one) for one in found.clusters] == [["b"], ["e"]]
    assert [one.edit for one in left] == ["a", "c"]


def seen(index):
    """All that can be asked of an index."""
    names = [("edit", f"e{i}") for i in range(9)] + [("prompt", f"p{i}") for i in range(6)]
    names += [("block", i) for i in range(40)]
    answers = index.nearest(torch.linspace(0, 12, 60)[:, None]) if index.clusters else []
    centres = index.centres.tolist() if index.clusters else []
    return list(index.clusters), [index.edits_with(name) for name in names], answers, centres


def scanned(index):
    """The same by a look at every cluster."""
    points = [point for cluster in index.clusters for point in cluster.points]
    asked = [("edit", f"e{i}") for i in range(9)] + [("prompt", f"p{i}") for i in range(6)]
    asked += [("block", i) for i in range(40)]
    found = [[p.edit for p in points if getattr(p, kind) == value] for kind, value in asked]
    centres = torch.stack([one.centre for one in index.clusters]) if points or index.clusters else torch.empty(0, 1)
    keys = torch.linspace(0, 12, 60)[:, None]
    least = torch.cdist(keys, centres, compute_mode="donot_use_mm_for_euclid_dist").min(1) if len(centres) else None
    answers = [] if least is None else list(zip(least.indices.tolist(), least.values.tolist(), strict=True))
    return list(index.clusters), found, answers, centres.tolist()


def changed(index, draw, block):
    """One change of any kind that is possible."""
    if index.clusters and draw.random() < 0.2:
        index.drop(f"e{draw.randrange(9)}")
        return
    new = Point(f"e{draw.randrange(9)}", f"p{draw.randrange(6)}", torch.tensor([draw.uniform(0, 12)]), block)
    dropped = (f"e{draw.randrange(9)}",) if draw.random() < 0.3 else ()
    for edit in dropped:
        index.drop(edit)
    event = draw.choice(["add", "join", "split"]) if index.clusters else "add"
    place = -1 if event == "add" else draw.randrange(len(index.clusters))
    radius, shrunk = (None, None) if event == "join" else (1.0, 0.5 if event == "split" else None)
    index.apply(Change(event, place, (1,), 1, radius, shrunk, least=1.0, dropped=dropped), new)


@pytest.mark.parametrize("seed", range(10))
def test_what_is_found_is_what_a_look_at_all_clusters_finds(seed):
    draw, index = random.Random(seed), Index()
    for block in range(40):
        changed(index, draw, block)
        assert seen(index) == scanned(index)


@pytest.mark.parametrize("seed", range(10))
def test_a_trial_leaves_nothing(seed):
    draw, index = random.Random(seed), Index()
    for block in range(20):
        changed(index, draw, block)
        before = seen(index)
        with index.trial():
            for later in range(block + 1, block + 6):
                changed(index, draw, later)
            assert seen(index) == scanned(index)
        assert seen(index) == before

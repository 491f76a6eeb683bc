"""What an edit does to clusters, and how near their points are."""

import torch

from editbench.methods.melo.clusters import Change, Point, distances


def test_distances():
    points = [Point(str(at), "", torch.tensor([3.0, at]), 0) for at in (0.0, 4.0)]
    assert distances(points, torch.tensor([0.0, 0.0])) == [3.0, 5.0] and distances([], torch.zeros(2)) == []


def test_a_change_survives_its_way_to_disk():
    change = Change("split", 3, (1, 2), 3, 0.5, 0.25, dropped=("x",))
    assert Change.of(change.metadata()) == change

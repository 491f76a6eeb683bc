"""What an edit does to the index, by hand: the only cluster is around 0, with radius 1.5."""

import pytest
import torch

from editbench import EditRequest
from editbench.methods.melo import MELOConfig
from editbench.methods.melo.clusters import Change, Point
from editbench.methods.melo.index import Index
from editbench.methods.melo.rules import GAP, MARGIN, decide

SAME, OTHER = (5, 6), (7,)


def key(at):
    return torch.tensor([100.0, at], dtype=torch.float64)


def decided(at, label, *, id="new", prompt="another", rules="sound", radius=1.0, empty_before=False):
    index = Index()
    index.apply(Change("add", -1, SAME, 11, 1.5), Point("first", "the prompt", key(0.0), 0))
    config = MELOConfig(radius=radius, rules=rules)
    near = None if empty_before else index.nearest(key(at)[None])[0]
    return decide(index, EditRequest(id, prompt, None, "y"), key(at), label, config, near), index


@pytest.mark.parametrize("rules", ["sound", "published"])
@pytest.mark.parametrize(
    ("at", "label", "event"),
    [(2.6, SAME, "add"), (2.6, OTHER, "add"), (1.4, SAME, "join"), (2.4, SAME, "join"), (1.4, OTHER, "split")],
)
def test_events(at, label, event, rules):
    change, _ = decided(at, label, rules=rules)
    assert (change.event, change.dropped) == (event, ())
    if event == "join":
        assert (change.least, change.margin) == (1.0, MARGIN if rules == "sound" else 0.0)
    assert change.refilled == (rules == "published" and event == "split")


def test_splits_enlarge_no_radius_unless_as_published():
    published, _ = decided(2.4, OTHER, rules="published")
    assert (published.radius, published.shrunk) == (pytest.approx(1.2 + GAP), pytest.approx(1.2 - GAP))
    sound, _ = decided(2.4, OTHER)
    assert (sound.radius, sound.shrunk) == (1.0, pytest.approx(1.2 - GAP))
    assert decided(2.4, OTHER, radius=4.0)[0].radius == pytest.approx(1.2)


def test_answers_are_compared_by_their_tokens_unless_as_published():
    assert decided(1.4, (6, 5))[0].event == "split" and decided(1.4, (11,), rules="published")[0].event == "join"


@pytest.mark.parametrize("again", [{"prompt": "the prompt"}, {"id": "first"}])
def test_an_edit_of_the_same_prompt_replaces(again):
    change, index = decided(5.0, OTHER, **again)
    assert change.dropped == ("first",) and not index.clusters
    assert decided(5.0, OTHER, rules="published", **again)[0].dropped == ()
    assert decided(0.005, OTHER)[0].dropped == ("first",)

"""Which memory answers, by hand."""

import pytest
import torch

from editbench.memory_based.compression import dense
from editbench.methods.wise import WISEConfig
from editbench.methods.wise.memories import Memory
from editbench.methods.wise.routing import chosen, route


def memories(*minima):
    return [
        Memory(f"m{i}", dense(torch.zeros(1, 1), torch.float32), m, (f"a{i}", f"b{i}")) for i, m in enumerate(minima)
    ]


@pytest.mark.parametrize(
    ("scores", "sound", "published"),
    [
        ((0.9, 0.9, 0.4), -1, -1),
        ((1.1, 1.5, 0.4), 1, 1),
        ((1.1, 0.5, 0.6), 0, 0),
        ((1.1, 0.5, 3.0), 2, 2),
        ((3.0, 0.5, 2.0), 0, 0),
        ((1.1, 0.5, 0.5), 0, 0),
    ],
)
def test_choice(scores, sound, published):
    """Thresholds are half of 2, 2 and 1; the last is the open shard."""
    some, given = memories(2.0, 2.0, 1.0), torch.tensor([scores])
    for rules, wanted in (("sound", sound), ("published", published)):
        ((place, share),) = chosen(some, given, True, WISEConfig(act_ratio=0.5, rules=rules))
        assert place == wanted
        assert share == pytest.approx(max(scores[0], scores[1], scores[2] / 0.5))


def test_a_published_memory_must_exceed_the_open_shard_even_if_that_does_not_answer():
    some, scores = memories(2.0, 8.0), torch.tensor([[1.5, 3.0]])
    assert chosen(some, scores, True, WISEConfig(act_ratio=0.5))[0][0] == 0
    assert chosen(some, scores, True, WISEConfig(act_ratio=0.5, rules="published"))[0][0] == -1


def test_a_memory_is_right_for_each_of_its_edits():
    some = memories(2.0)
    found = route(some, 0, 1.5)
    assert (found.id, found.shared, found.activation) == ("a0", ("b0",), 1.5)
    assert route(some, -1, 0.5).id is None

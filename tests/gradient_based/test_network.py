"""The network: the identity before training, a place for each module, gradients where training begins."""

import pytest
import torch

from editbench.gradient_based.network import EditNetwork

SHAPES = {"a": "3x2", "b": "2x3", "c": "3x2"}


def network(inside):
    return EditNetwork(SHAPES, rank=2, blocks=2, learning_rate=0.1, scale_inside=inside, ridge=True)


@pytest.mark.parametrize("inside", [True, False])
def test_it_begins_as_the_identity_and_can_learn(inside):
    one, rows = network(inside), torch.randn(4, 5)
    assert one.place == {"a": ("3x2", 0), "b": ("2x3", 0), "c": ("3x2", 1)}
    for name in SHAPES:
        assert torch.equal(one(name, rows), rows)
        assert one.learning_rate(name).item() == pytest.approx(0.1) and one.ridge(name).item() == 1
    torch.autograd.backward(one("a", rows).square().sum())
    block = one.shapes["3x2"].blocks[0]
    assert block.B.grad.any() and block.bias.grad.any()  # the clamp's gradient at 0 is 1
    assert block.shift.grad[0].any() and not block.shift.grad[1].any()  # "c" had no part in it


def test_scale_and_shift_stand_inside_the_non_linearity_or_outside():
    rows, found = torch.randn(4, 5), {}
    for inside in (True, False):
        one = network(inside)
        for block in one.shapes["3x2"].blocks:
            block.B.data.fill_(0.1)
            block.scale.data.fill_(2.0)
            block.shift.data.fill_(-0.5)
        found[inside], wanted = one("c", rows), rows
        for block in one.shapes["3x2"].blocks:
            u = wanted @ block.A @ block.B
            wanted = wanted + ((2 * u - 0.5).clamp(min=0) if inside else 2 * u.clamp(min=0) - 0.5)
        assert torch.allclose(found[inside], wanted, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found[True], found[False])


def test_the_same_start_every_time():
    first, second = network(True).state_dict(), network(True).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    without = EditNetwork(SHAPES, rank=2, blocks=1, learning_rate=0.1, scale_inside=True, ridge=False)
    assert not [name for name in without.state_dict() if "ridge" in name]

"""Hooks: tensors are seen and replaced within the block; an MLP runs only where its output is read."""

import pytest
import torch

from editbench.model.hooks import hooked, mlp_only_at
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm


def test_tensors_are_seen_and_replaced_within_the_block():
    module, seen = torch.nn.Linear(3, 3), []
    x = torch.ones(2, 3)
    with hooked(module, seen.append), hooked(module, lambda t: t * 2, inputs=True):
        out = module(x)
    assert torch.equal(out, module(x * 2)) and torch.equal(seen[0], out)
    with hooked(module, torch.zeros_like):
        assert not module(x).any()
    assert module(x).any() and len(seen) == 1


class Pair(torch.nn.Module):
    """Gives a tuple, as attention does."""

    def forward(self, x, y):
        return x, y


def test_of_a_tuple_the_first_is_replaced():
    module, one = Pair(), torch.ones(1)
    with hooked(module, lambda t: t + 1), hooked(module, lambda t: t * 5, inputs=True):
        assert [float(t) for t in module(one, one)] == [6, 1]


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_an_mlp_runs_only_where_its_output_is_read(architecture):
    lm = tiny_lm(architecture, "float64")
    ids = torch.tensor([lm.encode("Toko Yasuda plays the guitar").ids[:5]] * 3)
    mask, positions = torch.ones_like(ids), torch.arange(5).expand(3, 5)
    rows, columns, sizes = torch.tensor([0, 2]), torch.tensor([4, 1]), []
    with torch.no_grad():
        whole = lm.hidden(ids, mask, positions)
        with (
            mlp_only_at(lm, 2, 3, rows, columns),
            hooked(lm.mlp_out(2), lambda t: sizes.append(t.numel()), inputs=True),
        ):
            part = lm.hidden(ids, mask, positions)
    assert sizes == [2 * lm.d_ff(2)]
    torch.testing.assert_close(part[rows, columns], whole[rows, columns])

import pytest
import torch

from editbench.memory_based.projection import FIRST, SECOND, Projection
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_the_second_projection(architecture):
    lm = tiny_lm(architecture)
    at = Projection.of(lm, 1, SECOND)
    assert at.module is lm.mlp_out(1) and at.weight == lm.mlp_out_name(1)
    assert lm.weight(at.weight).shape == (at.d_out, at.d_in) == (32, 48)


def test_the_first_projection_where_there_is_one():
    lm = tiny_lm("gpt2")
    at = Projection.of(lm, 2, FIRST)
    assert lm.weight(at.weight).shape == (at.d_out, at.d_in) == (48, 32)
    x = torch.randn(5, at.d_in)
    assert torch.allclose(at.module(x), x @ lm.weight(at.weight).T + at.module.bias, atol=1e-6)
    with pytest.raises(ValueError, match=r"several first projections \(mlp.gate_proj, mlp.up_proj\)"):
        Projection.of(tiny_lm("llama"), 1, FIRST)
    with pytest.raises(ValueError, match="layer 9 does not exist"):
        Projection.of(lm, 9, FIRST)

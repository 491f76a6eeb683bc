"""PMET beside the plain way of doing the same: two shifts in one forward pass of the whole model."""

import pytest
import torch

from editbench.locate_then_edit.shifted_forward import AT_PARTS
from editbench.locate_then_edit.values import optimise_values
from tests.edits import TEMPLATES, edits
from tests.methods.locate_then_edit import ARCHITECTURES, LAYERS, agree, make
from tests.oracles import memit_family as oracle
from tests.small_runs import covariance
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pmet(architecture):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    editor = make("pmet", lm, layers=LAYERS, covariance_weight=2.0)
    for batch in (edits(6)[:4], edits(6)[4:]):
        result = editor.edit(batch)
        losses = oracle.pmet(other, batch, TEMPLATES, covariance(lm), editor.config)
        assert [result.losses[r.id] for r in batch] == [pytest.approx(one, rel=1e-6) for one in losses]
    agree(lm, other, LAYERS)


def test_both_parts_are_held_to_their_own_length():
    lm = tiny_lm("llama", "float64")
    editor = make("pmet", lm, layers=LAYERS, clamp_norm_factor=0.3, learning_rate=1.0)
    for value in optimise_values(lm, edits(4), TEMPLATES, 1, AT_PARTS, editor.config):
        assert value.init.shape == (2, 32)
        assert bool((value.delta.norm(dim=1) <= 0.3 * value.init.norm(dim=1) * (1 + 1e-9)).all())
        assert bool((value.delta.norm(dim=1) > 0).all())
        assert torch.equal(value.target, value.init + value.delta)


def test_an_attention_that_is_switched_off_takes_no_shift():
    lm = tiny_lm("llama", "float64")
    for parameter in lm.attention(1).parameters():
        parameter.data.zero_()
    editor = make("pmet", lm, layers=LAYERS)
    for value in optimise_values(lm, edits(4), TEMPLATES, 1, AT_PARTS, editor.config):
        assert not value.delta[0].any() and value.delta[1].any()

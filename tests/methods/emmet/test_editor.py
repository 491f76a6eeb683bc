"""EMMET beside the plain way of doing the same, its constraints, and MEMIT as one case of it."""

from dataclasses import replace

import pytest
import torch

from editbench.records import EditError
from tests.edits import TEMPLATES, edits
from tests.methods.locate_then_edit import ARCHITECTURES, LAYERS, agree, make
from tests.oracles import locate, memit_family
from tests.small_runs import covariance
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a in ("gpt2", "llama")])
def test_emmet(architecture, ridge):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    editor = make("emmet", lm, layers=LAYERS, covariance_weight=2.0, key_ridge=ridge)
    for batch in (edits(6)[:4], edits(6)[4:]):
        editor.edit(batch)
        memit_family.emmet(other, batch, TEMPLATES, covariance(lm), editor.config)
    agree(lm, other, LAYERS)


def test_without_a_ridge_every_edit_has_its_value():
    """(W + ΔW) K = V, whatever λ is."""
    lm = tiny_lm("llama", "float64")
    editor = make("emmet", lm, layers=[1], key_ridge=0.0, covariance_weight=1e4)
    before, keys = lm.weight(lm.mlp_out_name(1)).clone(), locate.keys(lm, edits(4), TEMPLATES, 1)
    hidden = locate.hidden(lm, edits(4), 1)
    editor.edit(edits(4))
    targets = torch.stack(
        [locate.value(tiny_lm("llama", "float64"), r, TEMPLATES, 1, "layer", editor.config)[-1] for r in edits(4)], 1
    )
    change = lm.weight(lm.mlp_out_name(1)) - before
    torch.testing.assert_close(change @ keys, targets - hidden, rtol=1e-6, atol=1e-8)


def test_a_ridge_of_one_is_memit():
    lm, other = tiny_lm("gpt2", "float64"), tiny_lm("gpt2", "float64")
    make("emmet", lm, layers=LAYERS, covariance_weight=3.0, key_ridge=1.0).edit(edits(4))
    make("memit", other, layers=LAYERS, covariance_weight=3.0).edit(edits(4))
    agree(lm, other, LAYERS, 1e-10)


def test_two_values_for_one_key_are_refused_by_name():
    editor, (first, *_) = make("emmet", tiny_lm("gpt2", "float64"), layers=[1], key_ridge=0.0), edits(1)
    with pytest.raises(EditError, match="layer 1: the matrix of the batch's keys, of which some are alike"):
        editor.edit([first, replace(first, id="again")])

"""RECT beside the plain way of doing the same, and its limits."""

import pytest
import torch

from editbench.methods.rect.editor import largest_changes
from tests.edits import TEMPLATES, edits
from tests.methods.locate_then_edit import LAYERS, agree, make
from tests.oracles import memit_family as oracle
from tests.small_runs import architectures, covariance
from tests.tiny_models import tiny_lm

SETTINGS = {"layers": LAYERS, "covariance_weight": 2.0}


@pytest.mark.parametrize("architecture", architectures(("gpt2", "llama", "gemma2")))
def test_rect(architecture):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    editor = make("rect", lm, **SETTINGS)
    for batch in (edits(6)[:4], edits(6)[4:]):
        editor.edit(batch)
        oracle.rect(other, batch, TEMPLATES, covariance(lm), editor.config)
    agree(lm, other, LAYERS, 1e-5)
    share = [float((editor.ledger.entries[0].changes[i].delta != 0).double().mean()) for i in range(2)]
    assert share == pytest.approx([0.4, 0.4], abs=0.002)


def test_all_kept_is_memit():
    lm, other = tiny_lm("llama", "float64"), tiny_lm("llama", "float64")
    make("rect", lm, kept_percent=100.0, **SETTINGS).edit(edits(4))
    make("memit", other, **SETTINGS).edit(edits(4))
    agree(lm, other, LAYERS, 1e-12)


def test_measured_again_later_layers_make_up_for_what_was_cut():
    found = []
    for remeasure in (False, True):
        lm = tiny_lm("gpt2", "float64")
        editor = make("rect", lm, remeasure=remeasure, kept_percent=20.0, **SETTINGS)
        editor.edit(edits(4))
        found.append([lm.weight(lm.mlp_out_name(layer)).clone() for layer in LAYERS])
    assert torch.equal(found[0][0], found[1][0]) and not torch.equal(found[0][1], found[1][1])


def test_largest_changes():
    weight, update = torch.tensor([[1.0, -2.0], [0.0, 4.0]]), torch.tensor([[1.0, 4.0], [1e-9, 2.0]])
    assert largest_changes(weight, update, 50.0).tolist() == [[1.0, 4.0], [0.0, 2.0]]  # q is 2, and the second stays
    assert largest_changes(weight, update, 25.0).tolist() == [[1.0, 4.0], [0.0, 0.0]]
    assert torch.equal(largest_changes(weight, update, 100.0), update)
    assert not largest_changes(weight, torch.zeros(2, 2), 50.0).any()

"""MEMIT_seq beside the plain way of doing the same; what a rollback forgets."""

import pytest
import torch

from editbench.records import EditError
from tests.edits import TEMPLATES, edits
from tests.methods.locate_then_edit import ARCHITECTURES, LAYERS, agree, make
from tests.oracles import memit_family as oracle
from tests.small_runs import covariance
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_memit_seq(architecture):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    editor, batches = make("memit_seq", lm, layers=LAYERS, covariance_weight=2.0), [edits(6)[:4], edits(6)[4:]]
    for batch in batches:
        editor.edit(batch)
    oracle.memit_seq(other, batches, TEMPLATES, covariance(lm), editor.config)
    agree(lm, other, LAYERS)


def test_the_first_batch_is_memits_and_the_next_is_not():
    lm, other = tiny_lm("llama"), tiny_lm("llama")
    memory, plain = make("memit_seq", lm, layers=LAYERS), make("memit", other, layers=LAYERS)
    for batch, alike in ((edits(6)[:3], True), (edits(6)[3:], False)):
        memory.edit(batch)
        plain.edit(batch)
        same = [torch.equal(lm.weight(lm.mlp_out_name(at)), other.weight(other.mlp_out_name(at))) for at in LAYERS]
        assert same == [alike] * 2


def test_rolled_back_edits_are_forgotten():
    lm = tiny_lm("gpt2")
    editor = make("memit_seq", lm, layers=LAYERS)
    editor.edit(edits(4)[:2])
    editor.edit(edits(4)[2:])
    twice = lm.weight(lm.mlp_out_name(1)).clone()
    editor.ledger.rollback(1)
    editor.edit(edits(4)[2:])
    assert torch.equal(lm.weight(lm.mlp_out_name(1)), twice)
    assert editor.memory.key_solvers[1].keys.shape[1] == 4


def test_compacted_keys_cannot_be_forgotten_one_by_one():
    editor = make("memit_seq", tiny_lm("gpt2"), layers=LAYERS, steps=1, weight_decay=0.0)  # d_ff is 48
    for start in range(0, 39, 13):
        editor.edit(edits(39)[start : start + 13])
    editor.ledger.rollback(1)
    with pytest.raises(EditError, match="restore the state"):
        editor.edit(edits(1))

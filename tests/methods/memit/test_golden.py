"""MEMIT against the published code's numbers: one batch of six edits over layers 2 to 4."""

import torch

from editbench import make_editor
from editbench.locate_then_edit.multi_layer import EditKeys
from editbench.locate_then_edit.shifted_forward import AT_LAYER
from editbench.locate_then_edit.values import optimise_values
from tests.golden_edits import furthest, golden, golden_lm, relative


def memit(lm):
    gold = golden("memit-gpt2")
    return make_editor("memit", lm, resources=gold.resources, **gold.settings)


def test_memit():
    gold, lm = golden("memit-gpt2"), golden_lm()
    editor = memit(lm)
    result = editor.edit(gold.requests)
    for request, losses in zip(gold.requests, gold.data["losses"], strict=True):
        assert furthest(result.losses[request.id], losses) < 1e-4
    for layer, change in zip(gold.settings["layers"], editor.ledger.entries[0].changes, strict=True):
        part = f"layer{layer}."
        delta = gold.tensors[part + "resid"] @ gold.tensors[part + "adj_k"].T
        assert relative(change.right, gold.tensors[part + "adj_k"]) < 1e-3
        assert relative(change.left @ change.right.T, delta) < 1e-3
        assert relative(editor.ledger.delta(lm.mlp_out_name(layer)), delta) < 1e-3


def test_values_and_keys():
    gold, lm = golden("memit-gpt2"), golden_lm()
    editor = memit(lm)
    values = optimise_values(lm, gold.requests, gold.data["templates"], 4, AT_LAYER, editor.config)
    for i, value in enumerate(values):
        assert relative(value.target, gold.tensors[f"z.{i}"]) < 1e-4
    seen = EditKeys.of(lm, gold.requests, gold.data["templates"], [2, 3, 4]).at(2)
    assert relative(seen.keys, gold.tensors["layer2.layer_ks"]) < 1e-5
    assert relative(seen.hidden, gold.tensors["layer2.cur_zs"]) < 1e-5


def test_one_edit_at_a_time_finds_the_same_values():
    gold, lm = golden("memit-gpt2"), golden_lm()
    editor = memit(lm)
    for i, request in enumerate(gold.requests):
        (value,) = optimise_values(lm, [request], gold.data["templates"], 4, AT_LAYER, editor.config)
        assert relative(value.target, gold.tensors[f"z.{i}"]) < 1e-4
    assert torch.equal(lm.weight(lm.mlp_out_name(2)), golden_lm().weight(lm.mlp_out_name(2)))

"""MEMIT_seq against the published code's numbers: two batches of three edits in sequence."""

import pytest

from editbench import make_editor
from tests.golden_edits import delta, furthest, golden, golden_lm, product, relative

LAYERS = (2, 3, 4)


def test_memit_seq():
    gold, lm = golden("memitseq-gpt2"), golden_lm()
    editor = make_editor("memit_seq", lm, resources=gold.resources, **gold.settings)
    for b, (requests, wanted) in enumerate(gold.batches()):
        result = editor.edit(requests)
        for request, losses in zip(requests, wanted, strict=True):
            assert furthest(result.losses[request.id], losses) < 1e-4
        for layer, change in zip(LAYERS, editor.ledger.entries[b].changes, strict=True):
            assert relative(change.right, gold.tensors[f"batch{b}.layer{layer}.right"]) < 1e-3
            assert relative(product(change), delta(gold.tensors, b, layer)) < 1e-3
        check_memory(editor, gold, b)
    for layer in LAYERS:
        total = sum(delta(gold.tensors, b, layer) for b in (0, 1))
        assert relative(editor.ledger.delta(lm.mlp_out_name(layer)), total) < 1e-3


def check_memory(editor, gold, batch):
    """Whitened keys times the factor of λC are the keys measured after the batch."""
    for i, layer in enumerate(LAYERS):
        solver = editor.memory.key_solvers[layer]
        keys = solver.base @ solver.keys
        assert relative(keys[:, -3:], gold.tensors[f"batch{batch}.final.layer{layer}.layer_ks"]) < 1e-4
        trace = gold.data["memory"][f"batch{batch}.cache_c_trace"][i]
        assert float(keys.square().sum()) == pytest.approx(trace, rel=1e-4)

"""AlphaEdit against the published code's numbers: two batches of three edits in sequence."""

import pytest

from editbench import make_editor
from tests.golden_edits import delta, furthest, golden, golden_lm, product, relative

LAYERS = (2, 3, 4)


def test_alphaedit():
    gold, lm = golden("alphaedit-gpt2"), golden_lm()
    editor = make_editor("alphaedit", lm, resources=gold.resources, **gold.settings)
    for b, (requests, wanted) in enumerate(gold.batches()):
        result = editor.edit(requests)
        for request, losses in zip(requests, wanted, strict=True):
            assert furthest(result.losses[request.id], losses) < 1e-4
        for layer, change in zip(LAYERS, editor.ledger.entries[b].changes, strict=True):
            assert relative(change.right, gold.tensors[f"batch{b}.layer{layer}.right"]) < 1e-3
            assert relative(product(change), delta(gold.tensors, b, layer)) < 1e-3
        check_memory(editor, gold, b)
    shares = {str(space["layer"]): space["directions"] / space["d_ff"] for space in gold.data["null_space"]}
    assert result.details["null_space"] == pytest.approx(shares)
    for layer in LAYERS:
        total = sum(delta(gold.tensors, b, layer) for b in (0, 1))
        assert relative(editor.ledger.delta(lm.mlp_out_name(layer)), total) < 1e-3


def check_memory(editor, gold, batch):
    """The keys of the memory are those measured after the batch, projected."""
    for layer in LAYERS:
        solver = editor.memory.key_solvers[layer]
        assert solver.keys.shape[1] == 3 * (batch + 1)
        keys = gold.tensors[f"batch{batch}.final.layer{layer}.layer_ks"].double()
        assert relative(solver.keys[:, -3:] * solver.base, solver.space.project(keys)) < 1e-4

"""PRUNE against the published code's numbers: two batches of three edits, then the end of the stream."""

import pytest
import torch

from editbench import make_editor
from editbench.methods.prune.config import MODES
from tests.golden_edits import delta, furthest, golden, golden_lm, relative

LAYERS = (2, 3, 4)


def nll(lm, request):
    """Mean negative log-likelihood of the target's tokens behind the bare prompt."""
    prompt, target = lm.encode(request.prompt).ids, lm.continuation(request.target)
    logits = lm.model(input_ids=torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(target)))


@pytest.mark.parametrize("mode", MODES)
def test_prune(mode):
    gold, lm = golden("prune-gpt2"), golden_lm()
    editor = make_editor("prune", lm, resources=gold.resources, mode=mode, **gold.settings)
    for requests, wanted in gold.batches():
        result = editor.edit(requests)
        for request, losses in zip(requests, wanted, strict=True):
            assert furthest(result.losses[request.id], losses) < 1e-4
    facts = editor.finish().details["pruned"]
    for layer, published in zip(LAYERS, gold.data["prune"], strict=True):
        fact, part = facts[str(layer)], f"prune.{layer}."
        assert fact["bound"] == pytest.approx(published["max_sigma_orig"], rel=1e-5)
        assert fact["above"] == published["clipped"]
        assert fact["largest"] == pytest.approx(published["singular_values"][0], rel=1e-4)
        assert fact["becomes"] == pytest.approx(published["adjusted"][0], rel=1e-4)
        pruned = gold.tensors[part + "left"].double() @ gold.tensors[part + "right"].double().T
        total = sum(delta(gold.tensors, b, layer) for b in (0, 1))
        expected = pruned if mode == "intended" else total + pruned
        assert relative(editor.ledger.delta(lm.mlp_out_name(layer)), expected) < 1e-3
    with torch.no_grad():
        assert [nll(lm, request) for request in gold.requests] == pytest.approx(gold.data["eval"][mode], abs=1e-3)

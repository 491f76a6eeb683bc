"""RECT against the published code's numbers: two batches of three edits in sequence, 40 % of the numbers kept."""

import torch

from editbench import make_editor
from editbench.methods.rect.editor import largest_changes
from tests.golden_edits import delta, furthest, golden, golden_lm, relative

LAYERS = (2, 3, 4)
MOST_FLIPS = 5  # numbers within rounding of the threshold


def mask(gold, batch, layer):
    """(d, d_ff)."""
    bits = gold.tensors[f"batch{batch}.layer{layer}.mask_bits"]
    return (bits[:, None].long() >> torch.arange(8) & 1).bool().reshape(64, 256)


def test_rect():
    gold, lm = golden("rect-gpt2"), golden_lm()
    editor = make_editor("rect", lm, resources=gold.resources, **gold.settings)
    for b, (requests, wanted) in enumerate(gold.batches()):
        result = editor.edit(requests)
        for request, losses in zip(requests, wanted, strict=True):
            assert furthest(result.losses[request.id], losses) < 1e-4
        for layer, change in zip(LAYERS, editor.ledger.entries[b].changes, strict=True):
            kept, expected = change.delta != 0, mask(gold, b, layer)
            assert int((kept ^ expected).sum()) <= MOST_FLIPS
            both = kept & expected
            assert relative(change.delta * both, delta(gold.tensors, b, layer) * both) < 1e-3


def test_masks_from_the_recorded_updates():
    """Batch by batch from the published code's own weights: every number is kept or cut as there."""
    gold, lm = golden("rect-gpt2"), golden_lm()
    for layer in LAYERS:
        weight = lm.weight(lm.mlp_out_name(layer)).clone()
        for b in (0, 1):
            cut = largest_changes(weight, delta(gold.tensors, b, layer), 40.0)
            assert torch.equal(cut != 0, mask(gold, b, layer))
            assert int((cut != 0).sum()) == 6555
            weight += cut.float()

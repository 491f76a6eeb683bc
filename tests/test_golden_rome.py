"""ROME against the published code's numbers: six single edits, and the same six in sequence."""

import pytest
import torch

from editbench import make_editor
from tests.golden_edits import furthest, golden, golden_host, relative

WEIGHT = "transformer.h.1.mlp.c_proj.weight"


def editor(host):
    settings = dict(golden("rome-gpt2").settings)
    (settings["layer"],) = settings.pop("layers")
    return make_editor("rome", host, materials=golden("rome-gpt2").materials, **settings)


@pytest.mark.parametrize("mode", ["single", "sequential"])
def test_rome(mode):
    gold, host = golden("rome-gpt2"), golden_host()
    edits = [edit for edit in gold.data["edits"] if edit["mode"] == mode]
    rome = editor(host)
    for i, (request, edit) in enumerate(zip(gold.requests, edits, strict=True)):
        part = f"{mode}.{i}."
        receipt = rome.edit([request])
        assert furthest(receipt.losses[request.id], edit["losses"]) < 1e-4
        (change,) = rome.ledger.entries[-1].changes
        left, right = gold.tensors[part + "right_vector"], gold.tensors[part + "left_vector"]
        assert relative(change.right[:, 0], right) < 1e-4
        assert relative(change.left @ change.right.T, torch.outer(left, right)) < 1e-3
        if mode == "single":
            rome.ledger.rollback()
    if mode == "sequential":
        assert relative(rome.ledger.delta(WEIGHT).T, gold.tensors["delta"]) < 1e-3

"""ROME against the published code's numbers: six single edits, and the same six in sequence; and without C."""

import pytest
import torch

from editbench import Resources, make_editor
from tests.golden_edits import golden, golden_lm, relative

WEIGHT = "transformer.h.1.mlp.c_proj.weight"


def editor(lm, resources=None, **other):
    settings = {**golden("rome-gpt2").settings, **other}
    (settings["layer"],) = settings.pop("layers")
    return make_editor("rome", lm, resources=resources or golden("rome-gpt2").resources, **settings)


@pytest.mark.parametrize("mode", ["single", "sequential"])
def test_rome(mode):
    gold, lm = golden("rome-gpt2"), golden_lm()
    edits = [edit for edit in gold.data["edits"] if edit["mode"] == mode]
    rome = editor(lm)
    for i, (request, edit) in enumerate(zip(gold.requests, edits, strict=True)):
        part = f"{mode}.{i}."
        result = rome.edit([request])
        assert result.losses[request.id] == pytest.approx(edit["losses"], rel=1e-4, abs=1e-4)  # up to 10, in float32
        (change,) = rome.ledger.entries[-1].changes
        left, right = gold.tensors[part + "right_vector"], gold.tensors[part + "left_vector"]
        assert relative(change.right[:, 0], right) < 1e-4
        assert relative(change.left @ change.right.T, torch.outer(left, right)) < 1e-3
        if mode == "single":
            rome.ledger.rollback()
    if mode == "sequential":
        assert relative(rome.ledger.delta(WEIGHT).T, gold.tensors["delta"]) < 1e-3


def test_rome_without_moment_adjustment():
    """The published code's keys and values, put into its formula with C switched off: u = k̄ / ‖k̄‖."""
    gold, lm = golden("rome-gpt2"), golden_lm()
    rome = editor(lm, Resources(templates=gold.data["templates"]), covariance_adjustment=False)
    for i, request in enumerate(gold.requests):
        names = ("k_mean", "cur_input", "cur_output", "target")
        mean, key, out, target = (gold.tensors[f"single.{i}.{name}"] for name in names)
        u = mean / mean.norm()
        v = (target - out) / (key @ u)
        rome.edit([request])
        (change,) = rome.ledger.entries[-1].changes
        assert relative(change.right[:, 0], u) < 1e-4
        assert relative(change.left[:, 0], v) < 1e-3
        assert relative(rome.ledger.delta(WEIGHT).T, torch.outer(u, v)) < 1e-3
        assert relative(change.right[:, 0], gold.tensors[f"single.{i}.left_vector"]) > 0.1  # C does matter here
        rome.ledger.rollback()

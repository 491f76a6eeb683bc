"""Reads the golden numbers of the locate-then-edit family: what the published code computes on a tiny trained model."""

import json
from functools import cache
from pathlib import Path

from safetensors.torch import load_file

from editbench import EditRequest, LanguageModel, Resources

FOLDER = Path(__file__).parent / "golden"
SETTINGS = {
    "v_num_grad_steps": "steps",
    "v_lr": "learning_rate",
    "v_weight_decay": "weight_decay",
    "kl_factor": "kl_factor",
    "clamp_norm_factor": "clamp_norm_factor",
    "layers": "layers",
    "mom2_update_weight": "covariance_weight",
    "alpha": "alpha",
    "upper_bound": "upper_bound",
    "neuron_threshold": "neuron_threshold",
    "max_iterations": "max_iterations",
    "nullspace_threshold": "nullspace_threshold",
    "L2": "l2",
}
"""Names of settings in the published code, and here."""


class Golden:
    """One folder: ``requests``, ``settings``, ``materials`` (templates and plain text), ``data`` and ``tensors``."""

    def __init__(self, name):
        self.data = json.loads((FOLDER / name / "data.json").read_text(encoding="utf-8"))
        self.tensors = load_file(FOLDER / name / "tensors.safetensors")
        self.requests = [EditRequest(**record) for record in self.data["records"]]
        self.settings = {SETTINGS[k]: v for k, v in self.data["settings"].items()}
        corpus = json.loads((FOLDER / "models" / "corpus.json").read_text(encoding="utf-8"))
        self.resources = Resources(texts=corpus["cov_sentences"], templates=self.data["templates"])

    def batches(self):
        """The two batches of three, and their losses."""
        for start in (0, 3):
            yield self.requests[start : start + 3], self.data["losses"][start : start + 3]


@cache
def golden(name):
    return Golden(name)


def golden_lm():
    return LanguageModel.load(FOLDER / "models" / "gpt2", device="cpu", attention="eager")


def relative(found, wanted):
    """‖found − wanted‖ / ‖wanted‖."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def furthest(found, wanted):
    """The largest difference between two lists of numbers of equal length."""
    assert len(found) == len(wanted)
    return max(abs(a - b) for a, b in zip(found, wanted, strict=True))


def delta(tensors, batch, layer):
    """ΔW (d, d_ff) of a batch, before anything is cut; its rank is the number of edits."""
    part = f"batch{batch}.layer{layer}."
    return tensors[part + "resid"].double() @ tensors[part + "right"].double().T


def product(change):
    """ΔW (d, d_ff) of a recorded change."""
    return change.left.double() @ change.right.double().T

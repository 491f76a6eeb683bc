"""ROME's family on tiny models: editors with given templates and covariance, to compare with `tests.oracles.locate`."""

from editbench import Resources, make_editor
from tests.edits import TEMPLATES
from tests.oracles import locate as oracle
from tests.small_runs import architectures, covariance

VALUE = {"steps": 4, "learning_rate": 0.1, "clamp_norm_factor": 0.6}
ARCHITECTURES = architectures(("gpt2", "llama", "qwen3", "gptj", "gemma2", "opt-post"))
NORMED = ("gemma2", "gemma3", "opt-post")
LAYERS = [0, 1]


def make(method, lm, resources=None, **settings):
    """An editor whose texts are never needed."""
    given = Resources(templates=TEMPLATES, covariance=covariance(lm), **(resources or {}))
    return make_editor(method, lm, resources=given, **{**VALUE, **settings})


def agree(lm, other, layers, tolerance=1e-6):
    """Both models have the same weights in these layers, up to a relative error."""
    for layer in layers:
        ours, plain = (h.weight(h.mlp_out_name(layer)) for h in (lm, other))
        assert float((ours - plain).norm() / plain.norm()) < tolerance


def distances(lm, requests, targets, layer):
    """‖z − h‖ of each edit, by the whole model."""
    return (targets - oracle.hidden(lm, requests, layer)).norm(dim=0)

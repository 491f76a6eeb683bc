"""Settings of every method for the shapes: those published for the nearest model, but for what random weights need."""

from dataclasses import fields

from editbench import plugins
from editbench.registry import hparams_folder, load_method, make_config, read_hparams

NEAREST = ("llama-3-8b", "llama-2-7b")  # models with published settings, the nearest first
LEFT_OUT = ("unedited", "external_weights")  # they make no edits of their own
FIRST = ("rome", "memit", "nse", "scen", "ultraedit", "finetune", "grace")
LAST = ("alphaedit",)  # its decompositions take longest
RANDOM = {"ridge": 0.01, "stop_loss": 0.0, "alpha": 0.0, "upper_bound": 1e9, "network": "untrained"}
"""A covariance of random weights is singular, their losses never stop an edit, and their norms are no model's."""
OWN = {
    "melo": {"layers": [29, 30, 31], "projection": "second", "scale": 4.0},
    "defer": {"layer": 27},
    "mend": {"layers": [29, 30, 31], "edits_at_once": 10},
    "rledit": {"layers": [24, 25, 26, 27, 28, 29, 30, 31]},
    "retrieval": {"layer": 20},
    "in_context": {"layer": 20, "demonstrations": 0, "embedding": "model"},
    "scen": {"train_eos": False},
}
"""Where nothing is published for such a model, or needs what is not here."""
STEPS = ("steps", "expert_steps", "neuron_steps")
KEEP = {"wise": ("alpha",), "lora": ("alpha",)}  # fields that mean something else there


def measured_methods():
    """Names of the methods that are measured, in their order."""
    names = [name for name in plugins.entry_points(plugins.METHODS) if name not in LEFT_OUT]
    middle = [name for name in names if name not in (*FIRST, *LAST)]
    return [*FIRST, *middle, *LAST]


def nearest(method, shape):
    """The model whose published settings of a method are taken for a shape; None where there are none."""
    folder = hparams_folder(method) / "published"
    return next((model for model in (shape, *NEAREST) if (folder / f"{model}.yaml").is_file()), None)


def config_of(method, shape, steps=None):
    """The method's config for a shape; ``steps`` take the place of all its numbers of steps."""
    model, cls = nearest(method, shape), load_method(method).config_class
    published = read_hparams(method, model, "published") if model else {}
    own = {field.name for field in fields(cls)} - set(KEEP.get(method, ()))
    random = {name: value for name, value in RANDOM.items() if name in own}
    fewer = dict.fromkeys(own.intersection(STEPS), steps) if steps else {}
    return make_config(method, cls, {**published, **random, **OWN.get(method, {}), **fewer})


def batch_of(method, batch):
    """Edits that are handed to the method at once: one for those that take one at a time or are slow in company."""
    return 1 if load_method(method).capabilities.max_batch == 1 or method in ("finetune", "lora", "wise") else batch

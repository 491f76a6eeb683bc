"""Every preset that claims the papers' constants holds them: each is compared with the file it comes from, field by field.

``data/published_constants.json`` has, by method and model, the settings that ship with the published code, under the
names they have there. A field that a preset does not share must stand in :data:`DIFFERENCES`, with its reason.
"""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from editbench import registry, runner
from editbench.config import settings_of
from editbench.console import conf_names
from editbench.setup import PAPERS_MODELS
from tests.golden_edits import SETTINGS

ROOT = Path(__file__).parent.parent
PUBLISHED = json.loads((Path(__file__).parent / "data" / "published_constants.json").read_text(encoding="utf-8"))
LAST_LAYERS = {"gpt2-xl": 47, "gpt-j-6b": 27, "llama-2-7b": 31, "llama-3-8b": 31}
NAMES = SETTINGS | {
    "mom2_adjustment": "moment_adjustment",
    "context_template_length_params": "template_lengths",
    "num_steps": "steps",
    "lr": "learning_rate",
    "weight_decay": "weight_decay",
    "norm_constraint": "norm_bound",
    "experts_step": "expert_steps",
    "neruals_step": "neuron_steps",
    "modify_layer_names": "layers",
    "theta": "theta",
}
"""Names of settings in the published code, and here."""
ALWAYS = {"fact_token": "subject_last", "layer_selection": "all"}
"""What every method here does, and no setting changes."""
ALWAYS_OF = {"memit": {"mom2_adjustment": True}, "nse": {"mom2_adjustment": True}, "finetune": {"kl_factor": 0}}
"""The same of one method: MEMIT and NSE cannot do without C, fine-tuning has no KL term."""
DIFFERENCES = {
    ("*", "mom2_dataset"): "conf/model/ files name the text (model.texts); the corpora are the user's: docs/reproduce.md",
    ("*", "mom2_n_samples"): "a corpus is counted in tokens, moment_tokens, all of it by default: docs/reproduce.md",
    ("*", "mom2_dtype"): "sums of float32 products in float64, which lose nothing: editbench/locate/moments.py",
    ("finetune", "objective_optimization"): "each target token behind the ones before it: methods/finetune/README.md",
    ("finetune", "batch_size"): "a batch of the stream is trained together, stream.batch_size: conf/stream/default.yaml",
    ("finetune", "max_length"): "nothing is cut; that no edit is too long is checked: methods/finetune/editor.py",
}
"""By method ("*" for all) and published field: why ours is another, and the file that shows it."""
NEVER_DIFFERENT = {"layers", "steps", "expert_steps", "neuron_steps", "learning_rate", "moment_weight", "max_iterations"}
MODELS_OWN = {
    "rome": {"layers"},
    "memit": {"layers"},
    "nse": {"layers", "alpha", "upper_bound"},
    "scen": {"layers", "expert_steps", "neuron_steps", "learning_rate"},
}
"""What ``constants=published`` leaves as the model has it."""


def published(method, preset):
    """All published fields of a preset, from each of its files."""
    return {name: value for file in PUBLISHED[method][preset] for name, value in file["values"].items()}


def translated(name, value):
    """A published field under our name, in our form; a method that edits one layer has it in ``layer``."""
    if name == "modify_layer_names":
        value = [int(re.fullmatch(r"model\.layers\.(\d+)\.mlp\.down_proj", module)[1]) for module in value]
    return NAMES[name], None if name == "norm_constraint" and value is False else value


def differing(method, model, fields, settings, leave_out=()):
    """Published fields whose counterpart in ``settings`` is another or none: name → (published, ours)."""
    found = {}
    always = {**ALWAYS, **ALWAYS_OF.get(method, {}), "v_loss_layer": LAST_LAYERS.get(model)}
    settings = {"layers": [settings["layer"]], **settings} if "layer" in settings else settings
    for name, value in fields.items():
        if name in always:
            if value != always[name]:
                found[name] = (value, always[name])
        elif name not in NAMES:
            found[name] = (value, "nothing")
        else:
            ours, wanted = translated(name, value)
            if ours not in leave_out and settings.get(ours, "nothing") != wanted:
                found[name] = (wanted, settings.get(ours, "nothing"))
    return found


def unexplained(method, found):
    return {name: pair for name, pair in found.items() if not {("*", name), (method, name)} & set(DIFFERENCES)}


def composed(*overrides):
    return settings_of(runner.compose([*overrides, "model.path=somewhere"]).method)[1]


def papers_cells():
    """(method, model) of every cell of a paper's model."""
    for cell in conf_names("method_model"):
        for model in PAPERS_MODELS:
            if cell.endswith(f"-{model}"):
                yield cell.removesuffix(f"-{model}"), model


@pytest.mark.parametrize(("method", "model"), papers_cells())
def test_a_papers_model_has_the_published_constants(method, model):
    presets = {name: name.partition(", ")[2] for name in PUBLISHED[method] if name.partition(", ")[0] == model}
    assert presets, f"no published file is known for {method} on {model}"
    for preset, dataset in presets.items():
        chosen = [f"dataset={dataset}"] if dataset else []
        settings = composed(f"method={method}", f"model={model}", *chosen)
        assert not unexplained(method, differing(method, model, published(method, preset), settings))


def test_every_published_file_has_its_preset():
    assert {(m, name.partition(", ")[0]) for m, by_model in PUBLISHED.items() for name in by_model} == set(papers_cells())


@pytest.mark.parametrize(("method", "model"), papers_cells())
def test_a_preset_names_the_files_that_it_comes_from(method, model):
    comment = (ROOT / "conf" / "method_model" / f"{method}-{model}.yaml").read_text(encoding="utf-8")
    for preset, files in PUBLISHED[method].items():
        for file in files if preset.partition(", ")[0] == model else ():
            assert f"{file['repository']}, {file['file']}" in comment


@pytest.mark.parametrize("method", PUBLISHED)
def test_defaults_are_the_published_constants(method):
    preset = next(iter(PUBLISHED[method]))  # the model that the config's docstring names
    config = registry.load_method(method).config_class()
    found = differing(method, preset.partition(", ")[0], published(method, preset), asdict(config))
    assert not unexplained(method, found)


@pytest.mark.parametrize("model", ["pocket", "pocket-gpt2", "real-pocket", "custom"])
@pytest.mark.parametrize("method", ["rome", "memit", "nse", "scen"])
def test_published_constants_of_any_model_are_those_of_gpt_j(method, model):
    settings = composed(f"method={method}", f"model={model}", "constants=published")
    preset = next((name for name in PUBLISHED[method] if name == "gpt-j-6b"), "llama-2-7b, zsre")
    fields = {k: v for k, v in published(method, preset).items() if k != "v_loss_layer"}
    assert not unexplained(method, differing(method, None, fields, settings, MODELS_OWN[method]))
    config = registry.load_method(method).config_class()
    as_in_the_code = {"template_starts", "template_tokens", "stop_loss", "key", "selection", "memory", "solve_dtype"}
    assert all(settings[k] == v for k, v in asdict(config).items() if k in as_in_the_code)


def test_differences_are_few_reasoned_and_never_of_what_decides():
    assert len(DIFFERENCES) <= 30
    seen = {(m, name) for m, by_model in PUBLISHED.items() for preset in by_model for name in published(m, preset)}
    for (method, name), reason in DIFFERENCES.items():
        assert NAMES.get(name) not in NEVER_DIFFERENT
        assert any(method in ("*", m) and name == n for m, n in seen), f"nothing differs in {name}"
        files = re.findall(r"[\w./-]+\.(?:md|py|yaml)", reason)
        assert files and all((ROOT / file).is_file() for file in files), reason

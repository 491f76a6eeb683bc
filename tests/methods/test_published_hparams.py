"""Every hparams file that claims the papers' constants holds them: each is compared, field by field, with its source.

``data/published_constants.json`` has, by method and model, the settings that ship with the published code, under the
names they have there. A field that a preset does not share must stand in :data:`DIFFERENCES`, with its reason.
"""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from editbench import compose as composing_module
from editbench import plugins, registry
from editbench.checks import suggestion
from editbench.jobs import nearest
from tests.composing import compose
from tests.golden_edits import SETTINGS

ROOT = Path(__file__).parents[2]
PUBLISHED = json.loads((ROOT / "tests" / "data" / "published_constants.json").read_text(encoding="utf-8"))
"""By method and model (and dataset, "model, dataset"): files, each with repository, commit, path and values."""
LAST_LAYERS = {"gpt2-xl": 47, "gpt-j-6b": 27, "llama-2-7b": 31, "llama-3-8b": 31}
NAMES = SETTINGS | {
    "mom2_adjustment": "covariance_adjustment",
    "context_template_length_params": "template_lengths",
    "num_steps": "steps",
    "lr": "learning_rate",
    "weight_decay": "weight_decay",
    "norm_constraint": "norm_bound",
    "experts_step": "expert_steps",
    "neruals_step": "neuron_steps",
    "modify_layer_names": "layers",
    "theta": "theta",
    "n_iter": "steps",
    "edit_lr": "learning_rate",
    "eps": "radius",
    "eps_expand": "expand",
    "replacement": "replacement",
    "val_init": "value_init",
    "act_ratio": "act_ratio",
    "act_margin": "margins",
    "mask_ratio": "mask_ratio",
    "merge_freq": "merge_every",
    "densities": "density",
    "retrieve": "variant",
    "k": "demonstrations",
    "emmet_lambda": "key_ridge",
    "num_iter": "steps",
    "init_radius": "radius",
    "num_block": "scale",
    "num_edit_per_block": "edits_per_block",
    "num_rank_per_block": "rank",
    "batch_size_once": "edits_at_once",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "rank": "rank",
}
"""Names of settings in the published code, and here."""
ALWAYS = {"fact_token": "subject_last", "layer_selection": "all"}
"""What every method here does, and no setting changes."""
MEMITS = ("memit", "memit_seq", "alphaedit", "rect", "prune", "emmet", "pmet", "nse")
ALWAYS_OF = {**{method: {"mom2_adjustment": True} for method in MEMITS}, "finetune": {"kl_factor": 0}}
ALWAYS_OF["emmet"] |= {"update_norm_lambda": 0}
ALWAYS_OF["pmet"] |= {"nll_loss_factor": 1}
ALWAYS_OF |= {"wise": {"merge_alg": "ties", "weights": 1.0, "objective_optimization": "only_label", "replay": False}}
ALWAYS_OF |= {"melo": {"dist_fn": "euc"}, "grace": {"dist_fn": "euc", "val_train": "sgd", "dropout": 0.0}}
ALWAYS_OF |= {"lora": {"kl_factor": 0, "norm_constraint": False}, "ultraedit": {"dropout": 0.0}}
"""The same of one method: MEMIT and its relatives cannot do without C, fine-tuning has no KL term, GRACE no other
distance. WISE merges by TIES alone, with equal weights, and repeats no earlier edit."""
UNUSED = {("alphaedit", "mom2_update_weight")}
"""Fields that the published code does not read: methods/alphaedit/README.md."""
DIFFERENCES = {
    ("*", "mom2_dataset"): "the corpus is the user's to give, model.texts: docs/reproduce.md",
    ("*", "mom2_n_samples"): "counted in tokens, all of the corpus by default: docs/reproduce.md",
    (
        "*",
        "mom2_dtype",
    ): "products in float32 as there, their sums in float64: editbench/locate_then_edit/covariance.py",
    ("finetune", "objective_optimization"): "each target token behind the ones before it: methods/finetune/README.md",
    ("finetune", "batch_size"): "that of the stream, 1 by default as there: conf/stream/default.yaml",
    ("finetune", "max_length"): "no edit is cut: methods/finetune/editor.py",
    ("wise", "use_chat_template"): "the dataset formats prompts, for all methods: methods/wise/README.md",
    ("melo", "key_id"): "keys stand at the prompt's last token: methods/melo/README.md",
    ("grace", "reg"): "read nowhere in the published code: methods/grace/README.md",
    ("grace", "num_pert"): "read nowhere in the published code: methods/grace/README.md",
    ("lora", "lora_type"): "LoRA itself, not AdaLoRA: methods/lora/README.md",
    ("lora", "batch_size"): "that of the stream, 1 by default as there: conf/stream/default.yaml",
    ("lora", "max_length"): "no edit is cut: methods/lora/README.md",
    ("ultraedit", "batch_size"): "that of the stream: conf/stream/default.yaml",
    ("ultraedit", "editor_batch_size"): "rows of zeros that are cut off again: methods/ultraedit/README.md",
    ("ultraedit", "token"): "where the answer is predicted, as in the authors' repository: methods/ultraedit/README.md",
    ("ultraedit", "half"): "the model's precision, model.dtype: methods/ultraedit/README.md",
}
"""By method ("*" for all) and published field: why ours is another, and the file that shows it."""
_STEPS = {"steps", "expert_steps", "neuron_steps"}
NEVER_DIFFERENT = _STEPS | {"layers", "learning_rate", "covariance_weight", "max_iterations"}
MODELS_OWN = {
    **{method: ["layers"] for method in ("rome", *MEMITS)},
    "nse": ["layers", "alpha", "upper_bound"],
    "scen": ["layers", "expert_steps", "neuron_steps", "learning_rate"],
}
"""What ``hparams=published`` leaves as the model has it."""
IN_THE_CODE = {"template_starts", "template_tokens", "stop_loss", "ridge", "key", "selection", "memory"}
"""Constants that the published code has in its lines and not in its files; the defaults here."""


def files_of(method, model):
    """(dataset or "", files) of each preset of this method and model."""
    for preset, files in PUBLISHED[method].items():
        name, _, dataset = preset.partition(", ")
        if name == model:
            yield dataset, files


def values_of(files):
    return {name: value for file in files for name, value in file["values"].items()}


def translated(name, value):
    """A published field under our name, in our form."""
    if name == "modify_layer_names":
        value = [int(re.fullmatch(r"model\.layers\.(\d+)\.mlp\.down_proj", module)[1]) for module in value]
    value = value.removeprefix("replace_") if name == "replacement" else value
    value = {True: "retrieve", False: "merge"}[value] if name == "retrieve" else value
    return NAMES[name], None if name == "norm_constraint" and value is False else value


def unexplained(method, model, published, settings, leave_out=()):
    """Published fields whose counterpart here is another or missing, without a reason: name → (published, ours)."""
    found, always = {}, {**ALWAYS, **ALWAYS_OF.get(method, {}), "v_loss_layer": LAST_LAYERS.get(model)}
    settings = {"layers": [settings["layer"]], **settings} if "layer" in settings else settings
    if "gamma" in settings:
        settings = {**settings, "margins": [settings[name] for name in ("alpha", "beta", "gamma")]}
    for name, value in published.items():
        if {("*", name), (method, name)} & {*DIFFERENCES, *UNUSED}:
            continue
        if name in always:
            ours, wanted = always[name], value
        elif name in NAMES:
            key, wanted = translated(name, value)
            ours = wanted if key in leave_out else settings.get(key, "nothing")
        else:
            ours, wanted = "nothing", value
        if ours != wanted:
            found[name] = (wanted, ours)
    return found


@pytest.fixture(scope="module", autouse=True)
def methods():
    composing_module.register(list(plugins.entry_points(plugins.METHODS)))


def composed(*overrides):
    return asdict(composing_module.parse(compose([*overrides, "model.path=somewhere"], hydra=False)).method.settings)


def published_files():
    """(method, model) of every published file of a model; those for any model and for one dataset are apart."""
    datasets = plugins.entry_points(plugins.DATASETS)
    for file in sorted((ROOT / "methods").glob("*/hparams/published/*.yaml")):
        if file.stem.partition("-")[0] != "any" and not file.stem.endswith(tuple(f"-{d}" for d in datasets)):
            yield file.parts[-4], file.stem


@pytest.mark.parametrize(("method", "model"), list(published_files()))
def test_a_papers_model_has_the_published_constants(method, model):
    presets = list(files_of(method, model))
    assert presets, f"no published file is known for {method} on {model}"
    for dataset, files in presets:
        settings = composed(f"method={method}", f"model={model}", *([f"dataset={dataset}"] if dataset else []))
        assert not unexplained(method, model, values_of(files), settings)


def test_every_published_file_has_its_preset():
    files = {(method, preset.partition(", ")[0]) for method, presets in PUBLISHED.items() for preset in presets}
    assert files == set(published_files())


@pytest.mark.parametrize(
    ("method", "name"),
    sorted({(of, name) for of in PUBLISHED for p in PUBLISHED[of].values() for name in values_of(p) if name in NAMES}),
)
def test_a_published_name_of_a_setting_is_answered_with_ours(method, name):
    known = [key.removeprefix("method.") for key in composing_module._keys_of("method", method)]
    if name not in known and NAMES[name] in known:
        for said in (nearest(f"method.{name}", [f"method.{k}" for k in known]), suggestion(name, known, "setting")):
            assert re.search(rf"['.]{NAMES[name]}\b", said)


@pytest.mark.parametrize(("method", "model"), list(published_files()))
def test_a_preset_names_the_files_that_it_comes_from(method, model):
    cells = (ROOT / "methods" / method / "hparams" / "published").glob(f"{model}*.yaml")  # a dataset may have its own
    comments = "".join(cell.read_text(encoding="utf-8") for cell in cells)
    for _, files in files_of(method, model):
        for file in files:
            assert file["file"] in comments
            assert file["repository"] in comments


@pytest.mark.parametrize(
    ("method", "model"),
    [
        ("pmet", "gpt-j-6b"),
        ("scen", "llama-2-7b"),
        ("wise", "llama-2-7b"),
        *((method, "gpt2-xl") for method in ("rome", "finetune", "grace", "melo", *MEMITS) if method != "pmet"),
    ],
)
def test_defaults_are_the_published_constants(method, model):
    _, files = next(files_of(method, model))  # of SCEN's, those for ZsRE
    config = registry.load_method(method).config_class()
    assert not unexplained(method, model, values_of(files), asdict(config))


@pytest.mark.parametrize("model", ["pocket", "pocket-gpt2", "custom"])
@pytest.mark.parametrize("method", MODELS_OWN)
def test_published_constants_for_any_model_are_those_of_one_papers_model(method, model):
    config = asdict(registry.load_method(method).config_class())
    for dataset, files in files_of(method, "llama-2-7b" if method == "scen" else "gpt-j-6b"):
        published = {name: value for name, value in values_of(files).items() if name != "v_loss_layer"}
        of = [f"dataset={dataset}"] if dataset else []
        settings = composed(f"method={method}", f"model={model}", "hparams=published", *of)
        assert not unexplained(method, model, published, settings, MODELS_OWN[method])
        assert all(settings[name] == config[name] for name in IN_THE_CODE & set(config))


def test_differences_are_few_and_reasoned_and_never_in_what_decides():
    assert len(DIFFERENCES) <= 30
    used = {(method, name) for method, presets in PUBLISHED.items() for f in presets.values() for name in values_of(f)}
    for (method, name), reason in DIFFERENCES.items():
        assert NAMES.get(name) not in NEVER_DIFFERENT
        assert any(name == n and method in ("*", m) for m, n in used), f"no preset has {name}"
        files = re.findall(r"[\w./-]+\.(?:md|py|yaml)", reason)
        assert files and all((ROOT / file).is_file() for file in files), reason


def test_ultraedit_has_the_modules_of_its_data_set():
    layers = {}
    for dataset in ("zsre", "wikibigedit"):
        given = ["method=ultraedit", "model=gpt-j-6b", f"dataset={dataset}", "dataset.path=x.json", "hparams=published"]
        layers[dataset] = list(composing_module.compose(given).method.settings.layers)
    assert layers == {"zsre": [*range(18, 27)], "wikibigedit": [*range(19, 27)]}  # the authors' repository

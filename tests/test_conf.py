"""Every shipped YAML composes with every method, and cells name settings that their method has."""

from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from editbench import compose as composing_module
from editbench import registry, single_run
from editbench.compose import conf_names
from editbench.config import settings_of

ROOT = Path(__file__).parent.parent / "conf"
CELLS = conf_names("method_model")
DATASETS = conf_names("dataset")
METHODS = tuple(name for name in registry.method_entry_points() if name != "external_weights")  # which needs a path


def split(cell):
    """Method, model (or set of constants), and the dataset's override where the cell is for one dataset alone."""
    method = next(m for m in METHODS if cell.startswith(f"{m}-"))
    rest = cell[len(method) + 1 :]
    dataset = next((d for d in DATASETS if rest.endswith(f"-{d}")), None)
    return method, rest.removesuffix(f"-{dataset}"), [f"dataset={dataset}"] if dataset else []


def compose(*overrides):
    paths = [] if any("pocket" in o for o in overrides if o.startswith("model=")) else ["model.path=somewhere"]
    return composing_module.compose([*overrides, *paths])


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_is_composed_by_default_and_typed(cell):
    method, model, dataset = split(cell)
    path = [] if model.startswith("pocket") else ["model.path=somewhere"]
    config = composing_module.compose([f"method={method}", f"model={model}", *dataset, *path])
    name, settings = settings_of(config.method)
    own = OmegaConf.to_container(OmegaConf.load(ROOT / "method_model" / f"{cell}.yaml"), resolve=True)
    assert name == method
    assert {k: settings[k] for k in own} == own
    config_class = registry.load_method(method).config_class
    assert set(own) <= {f.name for f in fields(config_class)}
    registry.make_config(method, config_class, settings)


@pytest.mark.parametrize("cell", conf_names("method_constants"))
def test_a_named_set_of_constants_beats_the_cell_and_is_typed(cell):
    method, constants, dataset = split(cell)
    assert constants in conf_names("hparams")
    config = composing_module.compose([f"method={method}", f"hparams={constants}", *dataset])
    assert config.constants == constants
    own = OmegaConf.to_container(OmegaConf.load(ROOT / "method_constants" / f"{cell}.yaml"))
    name, settings = settings_of(config.method)
    assert {k: settings[k] for k in own} == own
    registry.make_config(name, registry.load_method(name).config_class, settings)
    key, value = next(iter(own.items()))
    if isinstance(value, float | int):
        given = composing_module.compose([f"method={method}", f"hparams={constants}", f"method.{key}=3"])
        assert given.method[key] == 3  # the command line has the last word


@pytest.mark.parametrize("model", ["gpt2-xl", "gpt-j-6b", "llama-3-8b", "pocket"])
def test_nse_writes_all_neurons_or_selected_ones_and_keeps_its_other_settings(model):
    plain = compose("method=nse", f"model={model}").method
    for constants, threshold in (("all_neurons", 1.0), ("selected_neurons", 0.8)):
        config = compose("method=nse", f"model={model}", f"hparams={constants}")
        composing_module.check_hparams(config)
        assert config.method == {**plain, "neuron_threshold": threshold}


def test_published_constants_are_not_said_to_be_there_where_they_are_not():
    composing_module.check_hparams(
        compose("method=nse", "model=llama-2-7b", "hparams=published")
    )  # no cell: a choice to make
    with pytest.raises(ValueError, match="none are known for rome"):
        compose("method=rome", "hparams=all_neurons")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=memit", "model=llama-3-8b", "model.path=x"], "the settings for llama-3-8b are the published ones"),
        (["method=finetune"], "none are known for finetune"),
    ],
)
def test_published_constants_are_refused_where_they_would_be_none(overrides, message):
    composing_module.compose(overrides)
    with pytest.raises(ValueError, match=message):
        composing_module.compose([*overrides, "hparams=published"])
    with pytest.raises(ValueError, match=message):  # a job of a sweep that was not looked at before
        single_run.run(composing_module._compose([*overrides, "hparams=published"]))


@pytest.mark.parametrize("group", ["model", "dataset", "stream", "protocol", "hparams"])
def test_every_choice_of_a_group_composes(group):
    for name in conf_names(group):
        extra = ["model.path=somewhere"] if group == "model" and "pocket" not in name else []
        if group == "model" and name == "real-pocket":
            extra = ["model.path=somewhere"]
        extra += ["dataset.path=somewhere"] if name == "custom" and group == "dataset" else []
        extra += ["method=nse"] if group == "hparams" else []  # which has every set
        composing_module.compose([f"{group}={name}", *extra])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_composes_with_the_default_model(method):
    config = composing_module.compose([f"method={method}"])
    assert config.method.name == method


def test_a_cell_for_a_dataset_comes_on_top_of_the_models():
    published = {"layer": 20, "expert_steps": 10, "learning_rate": 1e-4}
    zsre = {**published, "neuron_steps": 20, "theta": 0.65, "theta_texts": None, "train_eos": True}
    hallucination = {**published, "neuron_steps": 30, "theta": 0.6, "theta_texts": 0.6, "train_eos": False}
    for dataset, wanted in {"zsre": zsre, "counterfact": zsre, "hallucination": hallucination}.items():
        method = compose("method=scen", "model=llama-2-7b", f"dataset={dataset}").method
        assert {name: method[name] for name in wanted} == wanted
    given = compose("method=scen", "model=llama-2-7b", "dataset=hallucination", "method.theta=0.9")
    assert given.method.theta == 0.9  # the command line has the last word


def test_a_command_line_setting_beats_the_cell():
    assert composing_module.compose(["method=rome", "method.layer=3"]).method.layer == 3


def test_a_path_alone_takes_the_config_of_its_name_or_the_empty_one():
    assert composing_module.compose(["model.path=some/where/real-pocket"]).model.name == "real-pocket"
    assert composing_module.compose(["model.path=some/where/else"]).model.name is None
    assert composing_module.compose(["model.path=pocket-gpt2"]).model.texts == "pocket"


def test_a_model_without_known_settings_is_said(capsys):
    composing_module.compose(["method=rome", "model.path=some/where/else"])
    assert "no settings of rome for custom are known" in capsys.readouterr().err
    composing_module.compose(["method=rome", "model.path=some/where/else", "method.layer=2"])
    assert not capsys.readouterr().err

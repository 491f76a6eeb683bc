"""Every shipped YAML composes with every method, and hparams files name settings that their method has."""

import json
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from editbench import compose as composing_module
from editbench import fetched, launch, plugins, registry
from editbench.compose import register
from editbench.conf_groups import choices, conf_names
from editbench.config import RunConfig
from tests.composing import compose as node_of
from tests.small_runs import FAST

ROOT = Path(__file__).parent.parent
METHODS = tuple(name for name in plugins.entry_points(plugins.METHODS) if name != "external_weights")  # needs a path
FILES = sorted((ROOT / "methods").glob("*/hparams/**/*.yaml"))
MODELS = conf_names("model")


def split(file):
    """Method, set, model ("any" for all; None for a set of one file) and dataset (or None) of an hparams file."""
    method, _, *origin, name = file.relative_to(ROOT / "methods").with_suffix("").parts
    if not origin:
        return method, name, None, None
    dataset = next((d for d in conf_names("dataset") if name.endswith(f"-{d}")), None)
    return method, origin[0], name.removesuffix(f"-{dataset}"), dataset


def compose(*overrides):
    paths = [] if any("pocket" in o for o in overrides if o.startswith("model=")) else ["model.path=somewhere"]
    return composing_module.compose([*overrides, *paths])


@pytest.fixture(scope="module", autouse=True)
def registered():
    register(list(plugins.entry_points(plugins.METHODS)))


# -- hparams ----------------------------------------------------------------------------------------------------------


def of_file(file):
    """A parameter: slow for methods that are akin to another."""
    slow = () if split(file)[0] in FAST else pytest.mark.slow
    return pytest.param(file, marks=slow, id="-".join(filter(None, split(file))))


@pytest.mark.parametrize("file", [of_file(file) for file in FILES])
def test_an_hparams_file_is_of_a_known_method_and_model_and_is_used_and_typed(file):
    method, origin, model, dataset = split(file)
    assert method in METHODS and (model is None or model in [*MODELS, "any"])
    assert model is None or origin in registry.ORIGINS
    own = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    assert set(own) <= {f.name for f in fields(registry.load_method(method).config_class)}
    assert file.read_text(encoding="utf-8").startswith("# ")  # its source
    better = registry.ORIGINS[: registry.ORIGINS.index(origin)] if model else ()
    preferred = not any((file.parents[1] / one / file.name).is_file() for one in better)
    forced = [] if preferred and model not in ("any", None) else [f"hparams={origin}"]
    overrides = [f"method={method}", *forced, *([f"dataset={dataset}", "dataset.path=somewhere"] if dataset else [])]
    chosen = "pocket" if model in ("any", None) else model
    config = composing_module.parse(node_of([*overrides, f"model={chosen}", "model.path=somewhere"], hydra=False))
    assert (config.method.name, config.method.hparams) == (method, origin)
    settings = asdict(config.method.settings)
    assert {k: settings[k] for k in own} == own


def test_the_command_line_has_the_last_word():
    for forced in ([], ["hparams=published"]):
        config = composing_module.compose(["method=rome", "method.layer=3", "method.steps=7", *forced])
        assert (config.method.settings.layer, config.method.settings.steps) == (3, 7)


@pytest.mark.parametrize("model", ["gpt2-xl", "gpt-j-6b", "llama-3-8b", "pocket"])
def test_nse_writes_all_neurons_or_selected_ones_and_keeps_its_other_settings(model):
    plain = asdict(compose("method=nse", f"model={model}").method.settings)
    for name, threshold in (("all_neurons", 1.0), ("selected_neurons", 0.8)):
        method = compose("method=nse", f"model={model}", f"hparams={name}").method
        assert (asdict(method.settings), method.hparams) == ({**plain, "neuron_threshold": threshold}, name)


def test_without_a_set_the_best_there_is_for_the_model_is_used_and_recorded():
    found = {
        model: compose("method=rome", f"model={model}").method.hparams for model in ("pocket", "llama-3-8b", "custom")
    }
    assert found.pop("pocket") in ("tuned", "by_hand")
    assert found == {"llama-3-8b": "published", "custom": "defaults"}
    assert composing_module.compose(["method=unedited"]).method.hparams is None


def test_published_settings_of_a_papers_model_are_the_default_and_can_be_asked_for():
    plain, forced = (compose("method=memit", "model=llama-3-8b", *more).method for more in ([], ["hparams=published"]))
    assert plain == forced and plain.hparams == "published"
    assert compose("method=nse", "model=llama-2-7b", "hparams=published").method.hparams == "published"  # for any model


@pytest.mark.parametrize(
    "overrides",
    [
        ["method=rome", "hparams=all_neurons"],
        ["method=finetune", "hparams=published"],
        ["method=unedited", "hparams=by_hand"],
    ],
)
def test_hparams_that_a_method_has_not_are_refused(overrides, capsys):
    message = f"{overrides[1]}: none are known for {overrides[0][7:]}"
    with pytest.raises(ValueError, match=message):
        composing_module.compose(overrides)
    result = launch.run_job(node_of(overrides, hydra=False))  # a job of a sweep that was not looked at before
    assert result.status == "failed" and message in result.row["reason"]
    assert message in capsys.readouterr().err


def test_settings_of_a_dataset_come_on_top_of_the_models():
    published = {"layer": 20, "expert_steps": 10, "learning_rate": 1e-4}
    zsre = {**published, "neuron_steps": 20, "theta": 0.65, "theta_texts": None, "train_eos": True}
    hallucination = {**published, "neuron_steps": 30, "theta": 0.6, "theta_texts": 0.6, "train_eos": False}
    for dataset, wanted in {"zsre": zsre, "counterfact": zsre, "hallucination": hallucination}.items():
        settings = compose("method=scen", "model=llama-2-7b", f"dataset={dataset}").method.settings
        assert {name: getattr(settings, name) for name in wanted} == wanted
    given = compose("method=scen", "model=llama-2-7b", "dataset=hallucination", "method.theta=0.9")
    assert given.method.settings.theta == 0.9  # the command line has the last word


def test_the_pocket_llama_is_the_pocket_model_by_another_name():
    one, other = (composing_module.compose(["method=nse", f"model={name}"]) for name in ("pocket", "pocket-llama"))
    assert other.model.name == "pocket-llama"
    other.model.name = "pocket"
    assert one == other
    assert composing_module.compose(["model.path=pocket-llama"]).model.name == "pocket-llama"


# -- groups -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("group", ["model", "dataset", "stream", "protocol", "hparams"])
def test_every_choice_of_a_group_composes(group):
    for name in choices(group):
        extra = ["model.path=somewhere"] if group == "model" and "pocket" not in name else []
        extra += ["dataset.path=somewhere"] if group == "dataset" and name not in fetched.DATASETS else []
        having = (m for m in ("nse", *METHODS) if name in registry.hparams_names(m))
        extra += [f"method={next(having, 'nse')}"] if group == "hparams" else []
        composing_module.compose([f"{group}={name}", *extra])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_composes_with_the_default_model(method):
    config = composing_module.compose([f"method={method}"])
    assert config.method.name == method


def test_a_path_alone_takes_the_config_of_its_name_or_the_empty_one():
    assert composing_module.compose(["model.path=some/where/gpt2-xl"]).model.name == "gpt2-xl"
    elsewhere = composing_module.compose(["method=unedited", "model.path=some/where/else"]).model
    assert (elsewhere.name, elsewhere.texts) == ("else", "self")
    assert composing_module.compose(["model.path=pocket-gpt2"]).model.texts == "pocket"


def test_a_model_without_known_settings_is_said(capsys):
    composing_module.compose(["method=rome", "model.path=some/where/else"])
    assert "no settings of rome for custom are known" in capsys.readouterr().err
    composing_module.compose(["method=rome", "model.path=some/where/else", "method.layer=2"])
    assert not capsys.readouterr().err


# -- what parse makes -------------------------------------------------------------------------------------------------


def test_a_parsed_config_is_typed_and_resolved_for_its_dataset():
    config = composing_module.compose(["dataset=zsre", "protocol=scen", "stream.edits=3"])
    assert isinstance(config, RunConfig) and config.dataset.limit == 3
    assert set(config.protocol.headline) == {"reliability", "generality", "locality"}
    assert config.protocol.final_first is None and config.dataset.settings.prompt_format == "[INST]{}[/INST]"
    plain = config.as_dict()
    assert plain["method"]["name"] == "rome" and plain["dataset"]["target"] == "alt"
    assert json.loads(json.dumps(plain)) and "tracker" not in config.deciding()


def test_a_value_that_is_missing_is_named():
    with pytest.raises(ValueError, match="model.path is not set; give model.path=VALUE"):
        composing_module.compose(["model=custom"])


# -- old names --------------------------------------------------------------------------------------------------------

RENAMED = json.loads((ROOT / "editbench" / "renamed.json").read_text())


@pytest.mark.parametrize("old", RENAMED["key"])
def test_an_old_key_names_the_new_one(old):
    new = RENAMED["key"][old]
    methods = ("scen", "memit", "rome", "melo", "wise", "emmet", "in_context")
    of = next((name for name in methods if new in composing_module._keys_of("method", name)), "scen")
    with pytest.raises(ValueError) as caught:
        composing_module.check([f"{old}=1", f"method={of}"])
    assert (new if " " in new else f"did you mean {new!r}") in str(caught.value)
    keys = composing_module._keys(composing_module._plain(node_of([f"method={of}"], hydra=False)))
    assert " " in new or new in keys


def test_no_setting_is_named_that_the_method_lacks():
    with pytest.raises(ValueError, match=r"unknown key 'method.eps'; known: method\.clamp_norm_factor, "):
        composing_module.check(["method=rome", "rome.eps=1"])


@pytest.mark.parametrize("old", RENAMED["method"])
def test_an_old_choice_names_the_new_one(old):
    new = RENAMED["method"][old]
    said = new if " " in new else f"did you mean '{new}'"
    with pytest.raises(ValueError, match=f"unknown method '{old}'; {said}"):
        composing_module.check([f"method={old}"])
    assert " " in new or new in choices("method")


def test_how_hparams_were_found_goes_with_them_and_decides_no_number(tmp_path, monkeypatch):
    for name, text in {"pocket": "layer: 1", "pocket-zsre": "steps: 7"}.items():
        (tmp_path / "hparams" / "tuned").mkdir(parents=True, exist_ok=True)
        (tmp_path / "hparams" / "tuned" / f"{name}.yaml").write_text(text)
    found = tmp_path / "hparams" / "tuned" / "pocket.json"
    monkeypatch.setattr(registry, "hparams_folder", lambda method: tmp_path / "hparams")
    folders = []
    for tuning in ((), (found,)):
        if tuning:
            found.write_text("{}")
        composing_module._store_method.cache_clear()
        for dataset in ("counterfact", "zsre"):
            config = composing_module.compose(["method=rome", "model=pocket", f"dataset={dataset}"])
            assert (config.method.hparams, config.method.settings.layer, config.method.tuning) == ("tuned", 1, tuning)
            folders.append(config.folder)
            assert "tuning" not in config.as_dict()["method"]
    assert folders[:2] == folders[2:]
    monkeypatch.undo()
    composing_module._store_method.cache_clear()
    composing_module.register(["rome"])


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ("dataset.path=编辑.json", "path", "编辑.json"),
        ("dataset.path=run=1 (a).json", "path", "run=1 (a).json"),
        ("dataset.path=~/Datensätze/ü.json", "path", "~/Datensätze/ü.json"),
        ("dataset.path=x[1], a;b #2.json", "path", "x[1], a;b #2.json"),
        ("dataset.path=C:\\Daten\\ü.json", "path", "C:\\Daten\\ü.json"),
        ("dataset.prompt_format=[INST]{}[/INST]", "prompt_format", "[INST]{}[/INST]"),
        ("dataset.prompt_format=<|user|> it's {}", "prompt_format", "<|user|> it's {}"),
    ],
)
def test_values_with_other_letters_and_signs_are_read_as_they_are(given, key, value):
    config = composing_module.compose(["dataset=custom", "dataset.path=x.json", given])
    assert (config.dataset.path if key == "path" else getattr(config.dataset.settings, key)) == value


def test_fields_of_a_file_are_mapped_by_any_name():
    given = ["dataset=custom", "dataset.path=x.json", "dataset.fields.target=target_new", "dataset.fields.id=Nr"]
    assert composing_module.compose(given).dataset.settings.fields == {"target": "target_new", "id": "Nr"}


def test_groups_of_a_users_own_folder_are_found_and_an_experiment_needs_its_plus(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nstream: {edits: 2}\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {method: 'rome,unedited', rome.layer: '1,2'}}}\n"
    )
    (tmp_path / "model" / "own.yaml").write_text("path: somewhere\n")
    place = f'hydra.searchpath=["file://{tmp_path.as_posix()}"]'
    command = composing_module.check([place, "+experiment=mine", "model=own", "own.dtype=bfloat16"])
    assert command.sweep and [job[0] for job in command.jobs] == ["method=rome", "method=rome", "method=unedited"]
    assert composing_module.parse(composing_module.compose_node([*command.jobs[1], *command.hydra])).stream.edits == 2
    with pytest.raises(ValueError, match="unknown experiment 'mine'"):
        composing_module.check(["+experiment=mine"])
    with pytest.raises(ValueError, match="experiment=mine needs a plus sign: \\+experiment=mine"):
        composing_module.check([place, "experiment=mine"])


@pytest.mark.parametrize("name", ["1e3", "007", "-1.50", "1_000", "2024.json"])
def test_the_name_of_a_file_may_look_like_a_number(name):
    dataset = composing_module.compose(
        ["method=rome", "dataset=custom", f"dataset.path={name}", f"dataset.plain_path={name}"]
    ).dataset
    assert dataset.path == dataset.settings.plain_path == name

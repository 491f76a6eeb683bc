"""Methods by name: their classes, configs and hparams files."""

import json
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from editbench import plugins, registry
from tests.tiny_models import tiny_lm

RENAMED = json.loads((Path(registry.__file__).parent / "renamed.json").read_text())


@pytest.mark.parametrize(
    ("method", "old"),
    [
        *(("memit", old) for old in ("moment_weight", "v_lr", "prompt_format", "answer_separator")),
        *(("rome", "moment_adjustment"), ("grace", "eps"), ("wise", "act_margin"), ("in_context", "k")),
    ],
)
def test_an_old_setting_names_the_new_one(method, old):
    with pytest.raises(ValueError) as caught:
        registry.make_config(method, registry.load_method(method).config_class, {old: 1})
    new = RENAMED["key"][f"method.{old}"].removeprefix("method.")
    assert str(caught.value).endswith(f"; {new}" if " " in new else f"; did you mean {new!r}?")


def test_a_value_of_another_type_is_refused():
    with pytest.raises(ValueError, match="method rome: .*'many'"):
        registry.make_config("rome", registry.load_method("rome").config_class, {"steps": "many"})


@pytest.mark.parametrize(
    ("method", "settings", "shown"),
    [
        ("grace", {"radius": float("inf")}, "method.radius is inf"),
        ("finetune", {"learning_rate": "nan"}, "method.learning_rate is nan"),
        ("rome", {"clamp_norm_factor": float("inf")}, "method.clamp_norm_factor is inf"),
    ],
)
def test_a_number_that_is_not_finite_is_refused(method, settings, shown):
    with pytest.raises(ValueError, match=f"^method {method}: {shown}; it must be finite$"):
        registry.make_config(method, registry.load_method(method).config_class, settings)


@dataclass
class Endless:
    bound: float = float("inf")
    weights: Any = 1.0


def test_a_default_may_be_infinite_and_lists_and_mappings_are_looked_into():
    assert registry.make_config("own", Endless, {"weights": [1.0, {"a": 2}]}).bound == float("inf")
    for weights in ([1.0, float("nan")], {"a": [float("inf")]}):
        with pytest.raises(ValueError, match="method own: method.weights is .*; it must be finite"):
            registry.make_config("own", Endless, {"weights": weights})


def test_only_an_editor_is_a_method(monkeypatch):
    point = EntryPoint("path", "pathlib:Path", plugins.METHODS)
    monkeypatch.setattr(plugins, "entry_points", lambda group: {"path": point})
    with pytest.raises(ValueError, match=r"method 'path' \(pathlib:Path\) is not a subclass of editbench.Editor"):
        registry.load_method("path")
    monkeypatch.setattr(plugins, "entry_points", lambda group: {"path": EntryPoint("path", "no_such:Path", group)})
    with pytest.raises(ValueError, match="its module no_such is not installed; install it or remove its package"):
        registry.hparams_folder("path")


def test_later_files_lie_on_top_of_earlier_ones(tmp_path, monkeypatch):
    for name in ("tuned/a", "published/a", "published/any", "by_hand/b", "by_hand/b-zsre", "special"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").touch()
    monkeypatch.setattr(registry, "hparams_folder", lambda method: tmp_path)

    def found(*arguments):
        origin, files = registry.find_hparams("rome", *arguments)
        return origin, [file.relative_to(tmp_path).with_suffix("").as_posix() for file in files]

    assert registry.hparams_names("rome") == ["tuned", "published", "by_hand", "special"]
    assert found("a", "zsre") == ("tuned", ["tuned/a"])
    assert found("a", "zsre", "published") == ("published", ["published/a"])
    assert found("b", "zsre") == ("by_hand", ["by_hand/b", "by_hand/b-zsre"])
    assert found("b", "custom", "published") == ("published", ["by_hand/b", "published/any"])
    assert found("a", "zsre", "special") == ("special", ["tuned/a", "special"])
    assert found("c", "zsre") == found("c", "zsre", "tuned") == ("defaults", [])
    monkeypatch.setattr(registry, "hparams_folder", lambda method: tmp_path / "missing")
    assert found("a", "zsre") == (None, [])


def test_an_editor_has_the_hparams_of_a_model_of_that_name():
    lm = tiny_lm("llama")
    lm.name = "Pocket"
    rome = registry.make_editor("rome", lm)
    known = registry.read_hparams("rome", "pocket")
    assert (rome.config.layer, rome.config.clamp_norm_factor) == (known["layer"], known["clamp_norm_factor"])
    assert registry.make_editor("rome", lm, layer=0).config == replace(rome.config, layer=0)
    assert len(registry.read_hparams("scen", "pocket")["negatives"]) == 100
    with pytest.raises(ValueError, match="layer 17 does not exist"):
        registry.make_editor("rome", lm, hparams="defaults")
    lm.name = "gpt2-xl"
    with pytest.raises(ValueError, match="hparams=tuned: none are known for rome with gpt2-xl; known: defaults, "):
        registry.make_editor("rome", lm, hparams="tuned")


def test_an_editor_needs_a_loaded_model_and_names_the_setting_that_was_meant():
    with pytest.raises(TypeError, match=r"needs a loaded model, not 'pocket': lm = editbench\.load_model"):
        registry.make_editor("rome", "pocket")
    with pytest.raises(ValueError, match=r"no setting 'lr'; did you mean 'learning_rate'"):
        registry.make_editor("rome", tiny_lm("gpt2"), lr=0.1)

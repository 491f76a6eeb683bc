"""Search spaces stand beside the fields that they are of."""

from dataclasses import fields

import pytest

from editbench import plugins
from editbench.registry import load_method, make_config
from editbench.search_space import Choice, Layer, Layers, Range, space_of

METHODS = [name for name in plugins.entry_points(plugins.METHODS) if space_of(load_method(name).config_class)]
ALL = [(method, name) for method in METHODS for name in space_of(load_method(method).config_class)]


class Trial:
    """An optuna trial that takes one end of each range."""

    def __init__(self, end):
        self.end, self.asked = end, []

    def suggest_int(self, name, low, high, log=False):
        self.asked.append(name)
        return (low, high)[self.end]

    def suggest_float(self, name, low, high, log=False):
        self.asked.append(name)
        assert not log or low > 0
        return (low, high)[self.end]

    def suggest_categorical(self, name, values):
        self.asked.append(name)
        return values[-self.end]


def test_every_method_that_changes_a_model_can_be_tuned():
    assert {"finetune", "rome", "memit", "nse", "scen", "grace", "wise", "melo"} <= set(METHODS)
    assert space_of(load_method("unedited").config_class) == {}


@pytest.mark.parametrize(("method", "name"), ALL)
def test_a_space_is_of_a_field_and_the_default_lies_within(method, name):
    config = load_method(method).config_class
    space, default = space_of(config)[name], getattr(config(), name)
    assert name in {field.name for field in fields(config)}
    if isinstance(space, Range):
        assert space.low < space.high and (default is None or space.low <= default <= space.high)
    elif isinstance(space, Choice):
        assert default in space.values
    elif isinstance(space, Layer):
        assert 0 <= default < space.of
    else:
        assert default[0] >= 0 and default[-1] < space.of and space.least <= len(default) <= space.most
        assert default == list(range(default[0], default[-1] + 1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("n_layers", [1, 3, 30])
def test_the_ends_of_all_spaces_together_are_settings_that_the_method_takes(method, end, n_layers):
    config, trial = load_method(method).config_class, Trial(end)
    values = {name: space.suggest(trial, name, n_layers) for name, space in space_of(config).items()}
    made = make_config(method, config, values)
    layers = values.get("layers", [values.get("layer", 0)])
    assert 0 <= layers[0] <= layers[-1] < n_layers
    assert all(getattr(made, name) == value for name, value in values.items())
    untuned = {name: space.start(getattr(config(), name), n_layers) for name, space in space_of(config).items()}
    make_config(method, config, {name: value for name, value in untuned.items() if value is not None})
    layers = untuned.get("layers", [untuned.get("layer", 0)])  # LoRA seeks none
    assert 0 <= layers[0] <= layers[-1] < n_layers


def test_numbers_are_short_and_stay_within():
    class Long(Trial):
        def suggest_float(self, name, low, high, log=False):
            return 0.123456789

    assert Range(0.0, 1.0).suggest(Long(0), "x", 1) == 0.123
    assert Range(0.1234, 1.0).suggest(Long(0), "x", 1) == 0.1234
    assert Range(0.0, 0.12).suggest(Long(0), "x", 1) == 0.12
    assert Range(1, 3).suggest(Trial(1), "x", 1) == 3


def test_layers_are_at_the_same_share_of_the_depth():
    assert Layer(of=48).start(17, 6) == 2 and Layer(of=48).start(17, 48) == 17 and Layer(of=32).start(31, 2) == 1
    assert Layers(of=48).start([13, 14, 15, 16, 17], 48) == [13, 14, 15, 16, 17]
    assert Layers(of=48).start([13, 14, 15, 16, 17], 30) == [8, 9, 10, 11, 12]
    assert Layers(of=48).start([13, 14, 15, 16, 17], 6) == [1, 2, 3, 4, 5]
    assert Layers(of=48).suggest(Trial(0), "layers", 6) == [0, 1, 2, 3]
    assert Layers(of=48).suggest(Trial(1), "layers", 6) == [2, 3, 4, 5]

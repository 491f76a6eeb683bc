"""Entry points by group and name."""

from importlib import metadata

import pytest

from editbench import plugins

METHODS = {"rome", "scen", "unedited", "external_weights", "memit", "nse", "finetune"}


@pytest.fixture
def installed(monkeypatch):
    """Entry points of installed packages are those of a list."""
    found = []
    monkeypatch.setattr(metadata, "entry_points", lambda group: [p for p in found if p.group == group])
    plugins._entry_points.cache_clear()
    yield found
    plugins._entry_points.cache_clear()


def test_the_methods_are_registered_under_their_names():
    assert set(plugins.entry_points(plugins.METHODS)) >= METHODS


def test_entry_points_are_sorted_and_not_imported(installed):
    installed += [metadata.EntryPoint(name, "no_such_package:x", plugins.METRICS) for name in ("b", "a", "b")]
    assert list(plugins.entry_points(plugins.METRICS)) == ["a", "b"]
    assert plugins.entry_points(plugins.TRACKERS) == {}
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        plugins.load(plugins.METRICS, "a", "metric")


def test_one_name_for_two_things_is_refused(installed):
    installed += [metadata.EntryPoint("a", f"{package}:x", plugins.METRICS) for package in ("one", "two")]
    with pytest.raises(
        ValueError, match="two packages register 'a' in editbench.metrics: one:x and two:x; uninstall one"
    ):
        plugins.entry_points(plugins.METRICS)


def test_an_unknown_name_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="unknown method 'romee'; did you mean 'rome'"):
        plugins.load(plugins.METHODS, "romee", "method")

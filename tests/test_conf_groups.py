"""Choices of config groups, from files, packages and the user's folders, and what is said of those that are none."""

import pytest

from editbench import conf_groups, plugins
from editbench.conf_groups import LAUNCHER_PLUGINS, check_choice, choices, conf_names


def test_choices_are_files_and_what_packages_register():
    assert {"pocket", "smollm2-135m", "custom"} <= set(conf_names("model")) <= set(choices("model"))
    assert set(plugins.entry_points(plugins.METHODS)) <= set(choices("method"))
    assert {"published", "by_hand", "consistent_key"} <= set(choices("hparams"))
    assert choices("experiment") == conf_names("experiment")


def test_a_users_folder_adds_to_them(tmp_path):
    (tmp_path / "experiment/own").mkdir(parents=True)
    (tmp_path / "experiment/own/mine.yaml").write_text("")
    assert "own/mine" in conf_names("experiment", [tmp_path])
    check_choice("experiment", "own/mine", [str(tmp_path)])


@pytest.mark.parametrize(
    ("group", "choice", "said"),
    [
        ("method", "rom", "did you mean 'rome'"),
        ("model", "org/name", "model.path="),
        ("hparams", "best", "unknown hparams"),
    ],
)
def test_what_is_no_choice_is_refused_with_what_is_near(group, choice, said):
    with pytest.raises(ValueError, match=said):
        check_choice(group, choice, [])


def test_no_hparams_is_a_choice_too():
    check_choice("hparams", None, [])


def test_a_launcher_that_is_not_installed_names_its_extra(monkeypatch):
    monkeypatch.setattr(conf_groups, "find_spec", lambda name: None)
    for name, (_, extra) in LAUNCHER_PLUGINS.items():
        with pytest.raises(ValueError, match=rf"launcher={name} .* pip install 'editbench\[{extra}\]'"):
            check_choice("launcher", name, [])
    assert {*LAUNCHER_PLUGINS, "local"} == set(conf_names("launcher"))

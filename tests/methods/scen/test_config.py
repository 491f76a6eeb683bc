"""Settings of SCEN that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm

LAYER = 1


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"expert_store": "sparse"}, "'sparse'; it must be one of 'dense', 'lowrank'"),
        ({"bits": 3}, "bits is 3"),
        ({"prompt_format": "{}"}, "the dataset or the protocol formats prompts"),
        ({"answer_separator": ""}, "one space stands before every answer"),
        ({"host_bytes": 0}, "set bank_directory"),
        ({"expert_steps": 0}, "expert_steps is 0"),
        ({"layer": 9}, "layer 9 does not exist"),
        ({"thetta": 0.5}, "did you mean 'theta'"),
    ],
)
def test_settings_are_checked(setting, words):
    with pytest.raises(ValueError, match=words):
        make_editor("scen", tiny_lm(), **({"layer": LAYER} | setting))


def test_the_folder_of_the_bank_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    editor = make_editor("scen", tiny_lm(), layer=LAYER, bank_directory="~/bank")
    assert editor.bank.files.path == tmp_path / "bank"

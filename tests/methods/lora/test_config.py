"""Settings of LoRA that are refused."""

import sys

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm

pytest.importorskip("peft", reason="peft is not installed")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"dropout": 1.0}, "dropout is 1"),
        ({"layers": [2, 1]}, "layers is"),
        ({"layers": [9]}, "layer 9 does not exist"),
        ({"modules": ["nothing"]}, "takes no such adapters"),
        ({"ranks": 2}, "did you mean 'rank'"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor("lora", tiny_lm("gpt2"), **settings)


def test_peft_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"pip install 'editbench\[peft\]'"):
        make_editor("lora", tiny_lm("gpt2"))

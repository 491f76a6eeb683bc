"""Settings of FT-L that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"objective": "prompt"}, "one of 'target', 'prompt_last', 'text'"),
        ({"replay": -1}, "replay is -1"),
        ({"ewc": -1.0}, "ewc is -1.0"),
        ({"norm_bound": 0.0}, "norm_bound is 0.0; .* or null"),
        ({"lyer": 1}, "did you mean"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor("finetune", tiny_lm("gpt2"), **settings)

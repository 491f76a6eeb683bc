"""Settings of ROME that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"key": "mean"}, "key is 'mean'"),
        ({"template_lengths": [[5]]}, "template_lengths holds"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor("rome", tiny_lm("gpt2"), **settings)

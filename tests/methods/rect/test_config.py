"""Settings of RECT that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize("percent", [0.0, 101.0])
def test_settings_are_checked(percent):
    with pytest.raises(ValueError, match=f"kept_percent is {percent}"):
        make_editor("rect", tiny_lm("gpt2"), kept_percent=percent)

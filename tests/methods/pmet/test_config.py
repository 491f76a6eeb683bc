"""Settings of PMET that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


def test_settings_are_checked():
    with pytest.raises(ValueError, match="rising"):
        make_editor("pmet", tiny_lm("gpt2"), layers=[2, 1])

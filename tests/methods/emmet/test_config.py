"""Settings of EMMET that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


def test_settings_are_checked():
    with pytest.raises(ValueError, match="key_ridge is -1"):
        make_editor("emmet", tiny_lm("gpt2"), key_ridge=-1.0)

"""Settings of PRUNE that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize(
    ("settings", "message"), [({"mode": "both"}, "mode is 'both'"), ({"log_base": 1.0}, "log_base is 1.0")]
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor("prune", tiny_lm("gpt2"), **settings)

"""Settings of MEMIT_seq that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize(
    ("settings", "message"), [({"layers": [3, 2]}, "rising"), ({"memory": "all"}, "has no setting 'memory'")]
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor("memit_seq", tiny_lm("gpt2"), **settings)

"""Settings of MEND that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"batch": 0}, "batch is 0"), ({"layers": [1, 0]}, "layers is"), ({"rank": 0}, "rank is 0")],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor("mend", tiny_lm("gpt2"), **{"layers": [0], "network": "untrained", **settings})

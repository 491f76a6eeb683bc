"""Settings of RLEdit that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group": 0}, "group is 0"),
        ({"sequence": 0}, "sequence is 0"),
        ({"back_depth": 0}, "back_depth is 0"),
        ({"time_decay": 0.0}, "time_decay is 0"),
        ({"regularisation": -1.0}, "regularisation is -1"),
        ({"loss": "mean"}, "one of 'editwise', 'published'"),
        ({"merge": "right"}, "one of 'exact', 'published'"),
        ({"locality_gradient": "right"}, "one of 'exact', 'published'"),
        ({"layers": [0, 9]}, "layer 9 does not exist"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor("rledit", tiny_lm("gpt2"), **{"layers": [0], "network": "untrained", **settings})

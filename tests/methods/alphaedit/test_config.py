"""Settings of AlphaEdit that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nullspace_threshold": 0.0}, "nullspace_threshold is 0.0"),
        ({"l2": 0.0}, "l2 is 0.0"),
        ({"covariance_weight": 10.0}, "has no setting 'covariance_weight'"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor("alphaedit", tiny_lm("gpt2"), **settings)

"""Settings of MEMIT that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": []}, "layers is \\[\\]"),
        ({"layers": [3, 2]}, "rising"),
        ({"covariance_weight": 0.0}, "covariance_weight is 0.0"),
        ({"solve_dtype": "float16"}, "solve_dtype is 'float16'"),
        ({"layer": [1]}, "did you mean"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor("memit", tiny_lm("gpt2"), **settings)

"""Settings of NSE that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 5.0, "upper_bound": 5.0}, "upper_bound is 5.0 and alpha 5.0"),
        ({"selection": "largest"}, "selection is 'largest'"),
        ({"memory": "some"}, "memory is 'some'"),
        ({"max_iterations": 1}, "max_iterations is 1"),
        ({"neuron_threshold": 0.0}, "neuron_threshold is 0.0"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor("nse", tiny_lm("gpt2"), **settings)

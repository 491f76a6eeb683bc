import pytest

from editbench.methods.defer import DeferConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 0}, "width is 0"),
        ({"irrelevant_prompts": 0}, "irrelevant_prompts is 0"),
        ({"irrelevant_tokens": 0}, "irrelevant_tokens is 0"),
        ({"gate_learning_rate": 0.0}, "gate_learning_rate is 0.0; it must be positive"),
        ({"threshold": 1.0}, "threshold is 1.0; it must be above 0 and below 1"),
        ({"projection": "third"}, "projection is 'third'"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        DeferConfig(**wrong)

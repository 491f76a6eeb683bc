import pytest

from editbench.methods.grace import GRACEConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"radius": 0.0}, "radius is 0.0; it must be positive"),
        ({"rules": "fixed"}, "rules is 'fixed'; it must be one of 'sound', 'published', 'easyedit'"),
        ({"replacement": "replace_last"}, "replacement is 'replace_last'"),
        ({"value_init": "hot"}, "value_init is 'hot'"),
        ({"expand": "moving"}, "expand is 'moving'"),
        ({"projection": "third"}, "projection is 'third'"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        GRACEConfig(**wrong)

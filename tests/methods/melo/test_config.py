import pytest

from editbench.methods.melo import MELOConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"edits_per_block": 0}, "edits_per_block is 0"),
        ({"scale": 0.0}, "scale is 0.0; it must be positive"),
        ({"lora_layers": [37, 36]}, "a rising list of numbers"),
        ({"lora_layers": [35, 36]}, "lora_layers begin at 35; they must lie behind layer=35"),
        ({"rules": "fixed"}, "rules is 'fixed'"),
        ({"projection": "third"}, "projection is 'third'"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        MELOConfig(**wrong)

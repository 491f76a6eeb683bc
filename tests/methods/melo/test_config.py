import pytest

from editbench.methods.melo import MELOConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"edits_per_block": 0}, "edits_per_block is 0"),
        ({"scale": 0.0}, "scale is 0.0; it must be positive"),
        ({"layers": [37, 36]}, "a rising list of numbers"),
        ({"layers": []}, "a rising list of numbers"),
        ({"rules": "fixed"}, "rules is 'fixed'"),
        ({"projection": "third"}, "projection is 'third'"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        MELOConfig(**wrong)


def test_one_layer_is_index_and_block_at_once():
    assert (MELOConfig().layer, MELOConfig().lora_layers) == (35, [36, 37])
    assert (MELOConfig(layers=[4]).layer, MELOConfig(layers=[4]).lora_layers) == (4, [4])

import pytest

from editbench.methods.wise import WISEConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"mask_ratio": 0.0}, "mask_ratio is 0.0; it must be above 0 and at most 1"),
        ({"density": 1.5}, "density is 1.5"),
        ({"old_weight": 1.0}, "old_weight is 1.0"),
        ({"save_every": 3, "merge_every": 10}, "merge_every=10 must be a multiple of save_every=3"),
        ({"save_every": 4, "merge_every": 2}, "merge_every=2 must be a multiple"),
        ({"variant": "both"}, "variant is 'both'"),
        ({"rules": "fixed"}, "rules is 'fixed'"),
        ({"memory_store": "lowrank"}, "memory_store is 'lowrank'"),
        ({"projection": "third"}, "projection is 'third'"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        WISEConfig(**wrong)

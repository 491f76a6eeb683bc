"""Shared settings of editors with a network: what is refused, and what decides edits alone."""

from dataclasses import fields

import pytest

from editbench.gradient_based.network_config import NetworkConfig


@pytest.mark.parametrize(
    "wrong",
    [
        *({"layers": []}, {"modules": []}, {"update_scale": 0.0}, {"learning_rate": -1.0}, {"gradient_clip": 0.0}),
        *({"network_learning_rate": 0.0}, {"rate_learning_rate": -1.0}, {"edit_weight": 0.0}, {"blocks": 0}),
        *({"locality_weight": -0.1}, {"rank": 0}, {"epochs": 0}, {"edits_at_once": 0}),
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NetworkConfig(**wrong)


def test_what_decides_edits_alone_needs_no_training_of_its_own():
    assert [f.name for f in fields(NetworkConfig) if f.metadata.get("editing")] == ["network", "update_scale"]
    assert "search" in {f.name: f for f in fields(NetworkConfig)}["update_scale"].metadata

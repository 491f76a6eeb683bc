"""Settings of a tracker as they are without any override."""

from editbench.config import RunConfig, TrackerConfig


def test_no_tracker_is_the_default_and_waits_are_bounded():
    config = TrackerConfig()
    assert config.name == "none" and config.project is None
    assert 0 < config.finish_seconds < config.start_seconds and config.queue > 0
    assert RunConfig.__dataclass_fields__["tracker"].default_factory is TrackerConfig

"""The description of a run that trackers get, and the interface of a tracker."""

import pytest

from editbench.tracking import Tracker, TrackerConfig
from tests.tracking.test_observer import tracked


def test_a_run_has_one_key_for_life_and_a_group_that_seeds_share(tmp_path):
    run, other = tracked(tmp_path), tracked(tmp_path, started="2030-01-02T00:00:00+00:00")
    assert run.key == tracked(tmp_path).key != other.key
    assert run.group == "counterfact-pocket-rome-e4-b2-0a1b2c3d"
    assert run.tags == ("counterfact", "pocket", "rome", "mine")


def test_a_tracker_has_all_four_methods():
    class Half(Tracker):
        def start(self, run):
            """Open the run."""

    with pytest.raises(TypeError, match="abstract"):
        Half(TrackerConfig())

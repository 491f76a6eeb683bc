"""External weights need a path."""

import pytest

from editbench.methods.external_weights import ExternalWeightsConfig


def test_a_path_is_needed():
    with pytest.raises(ValueError, match="no path; give the folder"):
        ExternalWeightsConfig()

"""Settings of UltraEdit that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": [1, 0]}, "layers is"),
        ({"layers": [0, 9]}, "layer 9 does not exist"),
        ({"modules": []}, "modules is an empty list"),
        ({"modules": ["transformer.h.0.mlp.nothing"]}, "has no module 'transformer.h.0.mlp.nothing'"),
        ({"modules": ["transformer.ln_f"]}, "1 dimensions; name linear modules"),
        ({"ridge": 0.0}, "ridge is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"edits_at_once": 0}, "edits_at_once is 0"),
        ({"statistics": "layer"}, "one of 'shape', 'module'"),
        ({"merge": "right"}, "one of 'exact', 'published'"),
        ({"loss": "mean"}, "one of 'editwise', 'published'"),
        ({"warm_up": -1}, "warm_up is -1"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor("ultraedit", tiny_lm("gpt2"), **{"layers": [0], **settings})

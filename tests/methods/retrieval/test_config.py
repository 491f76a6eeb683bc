"""Settings of retrieval editing that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"nearest": 0}, "nearest is 0"),
        ({"answer_tokens": 0}, "answer_tokens is 0"),
        ({"embedding": "words"}, "embedding is 'words'"),
        ({"treshold": 0.5}, "did you mean 'threshold'"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor("retrieval", tiny_lm("gpt2"), **settings)

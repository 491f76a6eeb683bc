"""Settings of in-context editing that are refused."""

import pytest

from editbench import make_editor
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"demonstrations": -1}, "demonstrations is -1"),
        ({"choice": "random"}, "one of 'nearest', 'first'"),
        ({"answer_tokens": 0}, "answer_tokens is 0"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"demonstration": 1}, "did you mean 'demonstrations'"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor("in_context", tiny_lm("gpt2"), **settings)

"""A value that does not fit its setting is named with what fits, however the libraries say it."""

import pytest

from editbench import compose
from editbench.override_errors import in_words


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stream.edits=many", "stream.edits is many; it must be a whole number"),
        ("stream.edits=all", "stream.edits is all; it must be a whole number, or null for all"),
        ("protocol.judge.timeout=soon", "protocol.judge.timeout is soon; it must be a number"),
        ("results.rerun=perhaps", "results.rerun is perhaps; it must be true or false"),
        ("protocol.metrics=exact_match", "protocol.metrics is exact_match; it must be a list, as in [a,b]"),
        ("protocol.headline=[1]", "protocol.headline is [1]; it must be a mapping, as in {name: value}"),
        (
            "protocol.judge=pocket",
            "protocol.judge is pocket; it must be given by its own settings, as in protocol.judge.NAME=VALUE",
        ),
        ("stream.edits=[1", 'stream.edits is "[1"; it must be a whole number'),
    ],
)
def test_a_value_of_another_type_is_named_with_what_fits(override, words):
    with pytest.raises(ValueError) as error:
        compose.compose([override])
    assert str(error.value) == words


def test_other_errors_keep_their_words_in_one_line():
    error = ValueError("It is wrong\n  and more")
    assert in_words(error) == "It is wrong"
    error.__cause__ = KeyError("why\nnot")
    assert in_words(error).startswith("It is wrong: ")

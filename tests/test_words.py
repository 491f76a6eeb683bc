"""What a word is, in any script, and where a phrase stands as words of its own."""

import pytest

from editbench.words import place, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("AT&T, not A & B", ["AT&T", "not", "A", "B"]),
        ("\u22125 and \u20135 and -5", ["-5", "and", "-5", "and", "-5"]),
        ("1,000,000.5 of 10,00", ["1000000.5", "of", "10", "00"]),
        ("U.S. and C++", ["US", "and", "C++"]),
        ("pages 3-5", ["pages", "3", "5"]),
    ],
)
def test_signs_stay_with_their_words(text, found):
    assert words(text) == found


@pytest.mark.parametrize(
    ("text", "phrase", "at"),
    [
        ("Mary-Ann and Ann", "Ann", 13),
        ("The Iranian president of Iran", "Iran", 25),
        ("Mary-Ann", "Ann", 5),
        ("Iranian", "Iran", 0),
        ("Iraq", "Iran", -1),
    ],
)
def test_a_phrase_is_where_it_is_words_of_its_own_if_it_is_so_anywhere(text, phrase, at):
    assert place(text, phrase) == at

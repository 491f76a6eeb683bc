"""What a word is, in any script, and where a phrase stands as words of its own."""

import pytest

from editbench.words import difference, needs_space, place, place_alike, shows_nothing, words


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


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("who was Carole Gist", "carole gist", "Carole Gist"),
        ("most Iranian in IRAN", "Iran", "IRAN"),
        ("of O’Neil and", "O'Neil", "O’Neil"),
        ("Sa\u0303o Paulo is", "São Paulo", "Sa\u0303o Paulo"),
        ("in São Paulo is", "Sa\u0303o Paulo", "São Paulo"),
        ("New\u00a0York is", "New York", "New\u00a0York"),
        ("Jean\u2011Luc is", "Jean-Luc", "Jean\u2011Luc"),
        ("ＮＨＫ is", "NHK", "ＮＨＫ"),
        ("zero\u200bwidth is", "zerowidth", "zero\u200bwidth"),
        ("die Straße ist", "STRASSE", "Straße"),
        ("mayor of İstanbul is", "Istanbul", "İstanbul"),
        ("عاصمة مصـر هي", "مصر", "مصـر"),
        ("the ﬁlm Jaws is", "film Jaws", "ﬁlm Jaws"),
        ("Rome is", "Bonn", None),
    ],
)
def test_a_phrase_is_found_where_it_looks_alike(text, phrase, found):
    at = place_alike(text, phrase)
    assert (None if at is None else text[slice(*at)]) == found


@pytest.mark.parametrize(
    ("text", "phrase", "part"),
    [
        ("The capital of \u0420\u0430ris is", "Paris", "CYRILLIC SMALL LETTER ER"),
        ("lives in Sao Paulo", "São Paulo", "LATIN SMALL LETTER A WITH TILDE"),
        ("lives in Rome", "Bonn", None),
        ("Rome", "Rome and Bonn", None),
    ],
)
def test_what_looks_alike_and_is_not_is_explained(text, phrase, part):
    found = difference(text, phrase)
    assert found is None if part is None else part in found


@pytest.mark.parametrize(
    ("prompt", "spaced"),
    [
        ("The capital is", True),
        ("The capital is [/INST]", True),
        ("프랑스의 수도는", True),
        ('He said "no"', True),
        ("the Simpsons'", True),
        ('Its name is "', False),
        ("It is “", False),
        ("France (", False),
        ("Answer:\n", False),
        ("中国的首都是", False),
        ("答案：", False),
        ("日本の首都は", False),
        ("เมืองหลวงคือ", False),
        ("", False),
    ],
)
def test_the_space_behind_a_prompt(prompt, spaced):
    assert needs_space(prompt) is spaced


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\u00ad\ufeff ", "\x07", "\ufe0f"])
def test_a_text_that_shows_nothing(text):
    assert shows_nothing(text) and not any(map(shows_nothing, (f"{text}a", f"{text}.", f"{text}👍", f"ه{text}")))

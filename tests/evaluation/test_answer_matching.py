"""Matching of answers: normalisation, the end of an answer, and comparisons."""

import re
import string

import pytest

from editbench.evaluation.answer_matching import contains, cut, matches, normalise, overlap, same


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The  English\tlanguage. ", "english language"),
        ("U.S. “quoted”, (an) apple", "us quoted apple"),
        ("Straße", "strasse"),
        ("The", "the"),
        ("!!!", "!!!"),
        ("", ""),
        ("French-speaking; France's", "french speaking france s"),
        ("C# and C++, not C", "c# and c++ not c"),
        ("-5 or \u22125, 3-5, 1914–1918", "-5 or -5 3 5 1914 1918"),
        ("10,000.5 of 1.5m, 1/2 and .5", "10000.5 of 1.5m 1 2 and .5"),
        ("1962, 1963. 50% of $5", "1962 1963 50 of $ 5"),
        ("Ph.D. of J.R.R.Tolkien.This", "phd of jrr tolkien this"),
        ("法国的首都是巴黎。", "法 国 的 首 都 是 巴 黎"),
        ("Sa\u0303o Paulo", "são paulo"),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("English. He was", "French", "English."),
        ("English\nFrench", "French", "English"),
        ("\n English, they say", "French", "English, they say"),
        ("St. Louis. It is", "St. Louis", "St. Louis."),
        ("St. Louis. It is", None, "St."),
        ('He said "no." Then', None, 'He said "no."'),
        ("3.5 million people", "3", "3.5 million people"),
        ("Hans Eysenck.This is a", "Hans Eysenck", "Hans Eysenck."),
        ("1987.This is", "1988", "1987."),
        ("the U.S.A and", "Rome", "the U.S.A and"),
        ("Amazon.COM. It", "Amazon.COM", "Amazon.COM."),
        ("巴黎。法国的首都", "巴黎", "巴黎。"),
        ("पेरिस।फ्रांस", "पेरिस", "पेरिस।"),
        ("", "x", ""),
    ],
)
def test_where_an_answer_ends(text, gold, expected):
    assert cut(text, gold) == expected


def squad(text):
    """The normalisation of SQuAD 1.1's evaluation script (Rajpurkar et al. 2016), word for word."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


@pytest.mark.parametrize(
    "text",
    [
        "The mother tongue of Danielle Darrieux is French.",
        '"An answer," (they say): Paris!',
        "the U.S. and the D.C. of A.",
        "10,000 people; 50% of them, in 1962.",
        "Rock and roll, *bold* and 'quoted'",
        "Łódź is a city, isn it?",
        "",
    ],
)
def test_plain_answers_are_normalised_as_squad_does(text):
    assert normalise(text) == squad(text)


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        *(("1.5", "15", False), ("-5", "5", False), ("1/2", "12", False), ("3-1", "31", False), ("C#", "C", False)),
        *(("50%", "50", True), ("10,000", "10000", True), ("U.S.", "US", True), ("1962.", "1962", True)),
        *(("1,5", "15", False), ("C++", "C", False), ("1.50 m", "1.5 m", False), ("Jean Paul", "Jean-Paul", True)),
        *(("\u22125", "-5", True), ("مرحبا؟", "مرحبا", True), ("Sa\u0303o", "são", True)),
    ],
)
def test_numbers_signs_and_names_that_are_not_equal(text, gold, right):
    assert matches(text, gold) is matches(gold, text) is right
    assert contains(f"It is {text} there", gold) is right


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("a French-speaking town", "French", True),
        ("he is France's king", "France", True),
        ("he is France’s king", "France", True),
        ("born there (1914–1918)", "1918", True),
        ("by Hans Eysenck.This is", "Hans Eysenck", True),
        ("Frances sings", "France", False),
        ("Iranian", "Iran", False),
        ("法国的首都是巴黎，在", "巴黎", True),
        ("法国的首都是巴黎，在", "北京", False),
        ("เขาอยู่ที่กรุงเทพมหานคร", "กรุงเทพ", True),
        ("그는 파리에서 태어났다", "파리", True),
        ("वह पेरिस में है", "पेर", False),
    ],
)
def test_an_answer_is_found_in_any_script(text, gold, expected):
    assert contains(text, gold) is expected


def test_chinese_answers_overlap_by_their_letters():
    assert overlap("北京市", "北京") == pytest.approx(4 / 5)


def test_same_answers():
    assert matches("the English. He", "English") and not matches("English and French", "English")
    assert not matches("Eng", "English") and not matches("", "English")
    assert contains("It is English, I say", "english") and not contains("Englishman", "English")
    assert contains("French\nor: English", "the English")
    assert same("English. He", "english. She") and not same("English", "French")
    assert same("", "")

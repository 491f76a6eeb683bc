"""What acts on a terminal is spelt out, all other text stays, and a spelt text can be read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editbench.visible_text import spelt, unspelt, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\rb\x07", r"a\x0db\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("\u200bno width\ufeff", r"\u200bno width\ufeff"),
        ("\U000e0041", r"\U000e0041"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_what_acts_is_spelt_out(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["plain", "two\nlines\tand a tab", "ünïcödé 東京 العربية", "C:\\x86\\u", "👩\u200d🔬", "\\x1b"]
)
def test_other_text_stays(text):
    assert visible(text) == text


@given(st.text() | st.text(st.sampled_from("\\xu01bU\x1b\u202e")))
def test_a_spelt_text_is_read_back(text):
    assert unspelt(spelt(text)) == text
    assert visible(spelt(text)) == spelt(text)

"""Texts as words, in any script: which texts are spelt alike, and where a phrase stands as words of its own."""

from __future__ import annotations

import unicodedata

import regex

_HYPHENS = "-‐‑"
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
"""Scripts that put no spaces between words, and Hangul, which writes particles onto them."""
_LETTER = rf"[\p{{L}}--[{_UNSPACED}]]"
_RUN = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+"
_WORD = regex.compile(
    rf"""
    {_RUN}+(?=\s|\Z)  # most words
    | [\p{{L}}&&[{_UNSPACED}]]\p{{M}}*  # each letter by itself
    | (?<![\p{{L}}\p{{N}}]) (?: (?:{_LETTER}\.)+{_LETTER}{{1,2}} | {_LETTER}{{2}}(?:\.{_LETTER})+ ) (?!\p{{L}})  # U.S
    | (?: (?<![\p{{L}}\p{{N}}.]) [-−–+]?\.?(?=\p{{Nd}}) )?  # the beginning of -5 and .5
      {_RUN} (?: (?:
          (?<=\p{{L}})&(?=\p{{L}})  # AT&T
          | (?<=\p{{Nd}})\.(?=\p{{Nd}}) | (?<=\p{{Nd}}),(?=\p{{Nd}}{{3}}(?!\p{{Nd}}))  # 10,000.5
      ) {_RUN} )*
      (?: (?<=\p{{L}})(?:\#|\+{{1,2}})(?![\p{{L}}\p{{N}}]) )?  # the end of C# and C++
    | [\p{{Sc}}\p{{Sm}}\p{{So}}]
    """,
    regex.V1 | regex.VERBOSE,
)


def words(text: str) -> list[str]:
    """The words of a text in NFC, case kept, without punctuation.

    Hyphens, apostrophes and all other punctuation separate words, except for what says something: the sign, decimal
    point and thousands' commas of a number ("-5", "3.5", "10,000"), the full stops of an abbreviation ("U.S."), the
    "&" of "AT&T", and the end of "C#" and "C++". Commas of numbers and stops of abbreviations are then taken out, and
    every minus is "-". Symbols ("$", "°") are words of their own, and so is each letter of a script without spaces.
    """
    return [_plain(word) for word in _WORD.findall(nfc(text))]


def place(text: str, phrase: str) -> int:
    """Where ``phrase`` first stands in ``text`` as words of its own, else where it first stands at all; -1 if nowhere.

    "Iran" in "The Iranian president of Iran" is the last word, and "Ann" in "Mary-Ann and Ann", too: a hyphen binds.
    """
    inside = {at for word in _WORD.finditer(text) for at in range(word.start() + 1, word.end())}
    starts = [at for at in range(len(text)) if text.startswith(phrase, at)]
    whole = [at for at in starts if at not in inside and at + len(phrase) not in inside]
    free = (at for at in whole if not {*text[:at][-1:], *text[at + len(phrase) :][:1]} & set(_HYPHENS))
    return next(free, next(iter([*whole, *starts]), -1))


def folded(text: str) -> str:
    """What texts that are spelt alike have in common, whatever their case, white space and Unicode form."""
    return nfc(" ".join(nfc(text).casefold().split()))


def nfc(text: str) -> str:
    """The text in Unicode's composed form: an "é" of one character, not of two."""
    return unicodedata.normalize("NFC", text)


def _plain(word: str) -> str:
    number = any(c.isdigit() for c in word)
    return word.replace(",", "").replace("−", "-").replace("–", "-") if number else word.replace(".", "")

"""Words of a text in any script; texts that are spelt alike; phrases and names found as whole words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from operator import ne

import regex

_HYPHENS = "-‐‑"
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
"""Scripts without spaces between words, and Hangul, which writes particles onto words."""
_JOINED = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\u3000-\u303F\uFF01-\uFF65]",
    regex.V1,
)
"""A character behind which no space stands: of a script without spaces, or a full-width mark."""
_SHAPES = dict.fromkeys("‘’‚‛′`´ʼ", "'") | dict.fromkeys("“”„‟″«»", '"') | {"−": "-"}
"""Quotation marks and minus, by the character that stands for all of its kind."""
_STRETCH = "\u0640"
"""Arabic's tatweel, which stretches a word."""
_NUMBER_SIGNS = frozenset("+-%#&")
_SEPARATORS = {"٫": ".", "٬": ","}
"""Of numbers, in Arabic."""
_WIDE_SEPARATOR = regex.compile("(?<=[０-９])[．，](?=[０-９])")  # noqa: RUF001
_UNSEEN = regex.compile(r"[\s\p{Cc}\p{Default_Ignorable_Code_Point}]*")
"""Blanks, controls, and what has no width, as a zero-width space or a soft hyphen."""
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
    """Words of a text in NFC, case kept, without punctuation.

    Punctuation separates words, but not the sign, decimal point and thousands' commas of a number ("-5", "3.5",
    "10,000"), the full stops of an abbreviation ("U.S."), the "&" of "AT&T", and the end of "C#" and "C++". Commas of
    numbers and stops of abbreviations are removed, and every minus is "-". Symbols ("$", "°") are words, and so is each
    letter of a script without spaces.
    """
    return [_plain(word) for word in _WORD.findall(nfc(text))]


@lru_cache(1 << 14)  # a request's is asked for at each step from its line to its edit
def place(text: str, phrase: str) -> int:
    """Index at which a phrase first occurs in a text as whole words, else at all, else -1.

    "Iran" in "The Iranian president of Iran" is the last word, and so is "Ann" in "Mary-Ann and Ann": a hyphen binds.
    """
    inside = {at for word in _WORD.finditer(text) for at in range(word.start() + 1, word.end())}
    starts = [at for at in range(len(text)) if text.startswith(phrase, at)]
    whole = [at for at in starts if at not in inside and at + len(phrase) not in inside]
    free = (at for at in whole if not {*text[:at][-1:], *text[at + len(phrase) :][:1]} & set(_HYPHENS))
    return next(free, next(iter([*whole, *starts]), -1))


def place_alike(text: str, phrase: str) -> tuple[int, int] | None:
    """Characters (start, end) of the phrase in a text where both look alike, or None; whole words first.

    Alike are texts that differ in case, Unicode form (NFD, full-width letters), white space, and the shape of quotation
    marks and hyphens, or in characters without width: "O’Neil" and "O'Neil".
    """
    (plain, indices), (sought, _) = _alike(text), _alike(phrase.strip())
    start = place(plain, sought) if sought else -1
    return None if start < 0 else (indices[start], indices[start + len(sought) - 1] + 1)


def difference(text: str, phrase: str) -> str | None:
    """The accents, or letters of another script, by which a part of a text differs from the phrase; None without."""
    (plain, indices), (sought, _) = _alike(text), _alike(phrase.strip())
    size = len(sought)
    wrong = [(sum(map(ne, plain[at : at + size], sought)), at) for at in range(len(plain) - size + 1)]
    count, at = min(wrong, default=(size, 0))
    pairs = [(a, b) for a, b in zip(plain[at : at + size], sought, strict=False) if a != b]
    if not 0 < count <= size // 2 or not all(a.isascii() != b.isascii() or _base(a) == _base(b) for a, b in pairs):
        return None
    part = text[indices[at] : indices[at + size - 1] + 1]
    named = ", ".join(f"{a!r} ({_name(a)}) for {b!r} ({_name(b)})" for a, b in dict.fromkeys(pairs))
    return f"{part!r} is there, with {named}"


def needs_space(before: str) -> bool:
    """Whether a space separates a prompt from the answer behind it.

    None stands behind a line break, an opening bracket or quotation mark, nor in or behind scripts without spaces.
    """
    last = before[-1:]
    if not last or last.isspace():
        return False
    if last in "\"'" and (len(before) == 1 or before[-2].isspace() or before[-2] in "([{"):
        return False
    return unicodedata.category(last) not in ("Ps", "Pi") and not _JOINED.fullmatch(last)


def shows_nothing(text: str) -> bool:
    """Whether a text is empty, or has only blanks and characters that cannot be seen."""
    return _UNSEEN.fullmatch(text) is not None


def folded(text: str) -> str:
    """The text without differences of case, white space and Unicode form: equal for texts that are spelt alike."""
    return nfc(" ".join(nfc(text).casefold().split()))


def nfc(text: str) -> str:
    """The text in Unicode's composed form: an "é" of one character, not of two."""
    return unicodedata.normalize("NFC", text)


def plain_digits(text: str) -> str:
    """The text with decimal digits of any script as 0 to 9, and with plain letters and signs for full-width ones.

    The separators of Arabic and full-width numbers are "." and ",". Superscripts and numerals (², Ⅳ, 四) stay.
    """
    if text.isascii():
        return text
    return "".join(map(_plain_digit, _WIDE_SEPARATOR.sub(lambda found: chr(ord(found[0]) - 0xFEE0), text)))


def _plain_digit(character: str) -> str:
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    width = unicodedata.east_asian_width(character)
    plain = unicodedata.normalize("NFKC", character) if width == "F" else character
    return plain if plain.isalpha() or plain in _NUMBER_SIGNS else _SEPARATORS.get(character, character)


def _alike(text: str) -> tuple[str, list[int]]:
    """Characters of a text in a form that those which look alike share, each with its index in the text."""
    plain: list[str] = []
    indices: list[int] = []
    for index, composed in _composed(text):
        for character in unicodedata.normalize("NFKC", composed).casefold().replace("i\u0307", "i"):  # of İ
            kind = unicodedata.category(character)
            shape = _SHAPES.get(character, character)
            shape = " " if kind == "Zs" or shape.isspace() else "-" if kind == "Pd" else shape
            if kind != "Cf" and character != _STRETCH and not (shape == " " and plain[-1:] == [" "]):
                plain.append(shape)
                indices.append(index)
    return "".join(plain), indices


def _composed(text: str) -> Iterator[tuple[int, str]]:
    """A text's characters with their combining marks, composed, each with the index of its first."""
    for found in regex.finditer(r"\X", text):
        for offset, character in enumerate(nfc(found.group())):
            yield min(found.start() + offset, found.end() - 1), character


def _base(character: str) -> str:
    return unicodedata.normalize("NFD", character)[0]


def _name(character: str) -> str:
    return unicodedata.name(character, f"U+{ord(character):04X}")


def _plain(word: str) -> str:
    number = any(c.isdigit() for c in word)
    return word.replace(",", "").replace("−", "-").replace("–", "-") if number else word.replace(".", "")


_NO_NAMES = frozenset(
    words(
        "a all am an and any are as at be been but by can could did do does down first for from had has have he her "
        "here him his how i if in is it its last may me might more most must my new no not now of off old on one only "
        "or other our out over shall she should so some than that the their them then there these they this those "
        "three to two under up us was we were what when where which who whom whose why will with would yes you your"
    )
)
"""English words that are no names in a text without capitals, though works and bands have such titles."""


class NameFinder:
    """Finds any of many names in a text, as whole words.

    Case counts for names of one word ("It", "May"), unless the name is written without capitals. In a text all in small
    letters, or all in capitals, case does not count, and words like "it" and "may" are no names.
    """

    def __init__(self, names: Iterable[str]) -> None:
        every = list(names)
        self._cased = _PhraseFinder({name: name for name in every})
        uncased = (name for name in every if len(words(name)) > 1 or name.islower())
        self._uncased = _PhraseFinder({name: name.casefold() for name in uncased})
        caseless = (name for name in every if name.casefold() not in _NO_NAMES)
        self._caseless = _PhraseFinder({name: name.casefold() for name in caseless})

    def found_in(self, text: str) -> set[str]:
        """The names that the text has."""
        small = text.casefold()
        caseless = self._caseless.found_in(small) if text in (text.lower(), text.upper()) else set[str]()
        return self._cased.found_in(text) | self._uncased.found_in(small) | caseless


class _PhraseFinder:
    """Finds any of many phrases in a text, as whole words, in time that does not grow with the number of phrases."""

    def __init__(self, phrases: Mapping[str, str]) -> None:
        """Phrases by name."""
        self._names: dict[tuple[str, ...], set[str]] = {}
        self._wordless: dict[str, str] = {}  # "!!!" is searched as text
        for name, phrase in phrases.items():
            if several := tuple(words(phrase)):
                self._names.setdefault(several, set()).add(name)
            else:
                self._wordless[name] = phrase
        self._lengths = sorted(set(map(len, self._names)))

    def found_in(self, text: str) -> set[str]:
        """Names of the phrases in the text."""
        found = tuple(words(text))
        names = {name for name, phrase in self._wordless.items() if phrase in text}
        for length in self._lengths:
            for start in range(len(found) - length + 1):
                names.update(self._names.get(found[start : start + length], ()))
        return names

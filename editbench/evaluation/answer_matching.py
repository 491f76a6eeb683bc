"""Matching of generated answers: where an answer ends, and how answers are normalised before they are compared.

An answer ends at the first of: the end-of-sequence token, the end of its first line, the end of a sentence
(:func:`cut`), the limit of tokens.
"""

from __future__ import annotations

import re
from collections import Counter

from editbench.words import nfc, words

VERSION = 2
"""Changes with the outcome of a comparison; also the version of the metrics that compare texts."""

_MARKS = re.compile(r"(?:(?P<always>[。！？｡।॥؟۔]+)|[.!?]+)[\"'”’」』）)\]]*")

_ARTICLES = frozenset(("a", "an", "the"))


def normalise(text: str) -> str:
    """Case folded, without punctuation and a/an/the, in Unicode's composed form, one space between words.

    Words are those of :func:`editbench.words.words`: "French-speaking" is two, "C#", "-5" and "3.5" stay, Chinese is
    split by letter. Articles and punctuation stay if nothing else is left. With punctuation at the ends of words only,
    this is the normalisation of SQuAD 1.1 (Rajpurkar et al. 2016).
    """
    folded = nfc(text).casefold()
    found = words(folded)
    return " ".join([word for word in found if word not in _ARTICLES] or found or folded.split())


def cut(text: str, gold: str | None = None) -> str:
    """The answer in a generated text: its first line that is not empty, up to the end of a sentence.

    A sentence ends with . ! or ? (and closing quotes or brackets) before a space or the end of the line. Before a
    capital the mark also ends it, unless the mark follows a capital: models trained on texts without a gap continue
    without a space. The marks of other scripts (。！？।؟۔) always end a sentence. An end within the length of
    ``gold``, both normalised, does not count: "St. Louis" is not cut after "St.".
    """
    line = text.strip().partition("\n")[0].rstrip()
    least = len(normalise(gold)) if gold else 1
    for marks in _MARKS.finditer(line):
        before, after = line[: marks.start()][-1:], line[marks.end() :][:1]
        ends = marks["always"] or not after or after.isspace() or (after.isupper() and not before.isupper())
        if ends and len(normalise(line[: marks.end()])) >= least:
            return line[: marks.end()]
    return line


def same(text: str, other: str, gold: str | None = None) -> bool:
    """Whether two generated texts give the same answer; both are cut by the length of ``gold``."""
    return normalise(cut(text, gold)) == normalise(cut(other, gold))


def matches(text: str, gold: str) -> bool:
    """Whether the answer in a generated text is ``gold``."""
    return normalise(cut(text, gold)) == normalise(gold)


def contains(text: str, gold: str) -> bool:
    """Whether the whole generated text contains ``gold``, as whole words; in scripts without spaces, anywhere."""
    return f" {normalise(gold)} " in f" {normalise(text)} "


def overlap(text: str, gold: str) -> float:
    """F1 of the words (with their counts) of the answer in a generated text and of ``gold``, both normalised."""
    answer, right = Counter(normalise(cut(text, gold)).split()), Counter(normalise(gold).split())
    common = (answer & right).total()
    return 2 * common / (answer.total() + right.total()) if common else 0.0

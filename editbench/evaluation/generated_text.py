"""Measures of generated text: matching of answers, fluency of free text, and its consistency with other texts.

An answer ends at the first of: the end-of-sequence token, the end of its first line, the end of a sentence
(:func:`cut`), the limit of tokens. Fluency and consistency are "GE" and "RS" of Meng et al. 2022 (ROME); as there, a
free text is the prompt and what is generated after it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import regex

from editbench.words import nfc, plain_digits, words

VERSION = 3
"""Changes with the outcome of a comparison of answers; also the version of the metrics that compare them."""

_MARKS = regex.compile(
    r"(?:(?P<always>[[\p{Sentence_Break=STerm}།༎]--[!?]]+)|[.!?]+)[[\p{Pe}\p{Pf}\"']--[།༎]]*", regex.V1
)
"""Ends of sentences by Unicode (UAX 29), and Tibetan's; with closing quotation marks and brackets."""

_ARTICLES = frozenset(("a", "an", "the"))

TOKENS = 100
"""Tokens of a free text, prompt included."""

TOP_K = 5
"""Each token of a free text is drawn among this many."""

_TOKEN = re.compile(r"\w+|[^\w\s]")

_TERM = re.compile(r"\b\w\w+\b")

_WEIGHTS = {2: 2 / 3, 3: 4 / 3}


def normalise(text: str) -> str:
    """Case folded, without punctuation and a/an/the, in Unicode's composed form, one space between words.

    Digits of any script, and full-width letters, are the plain ones (:func:`editbench.words.plain_digits`). Words are
    those of :func:`editbench.words.words`: "French-speaking" is two, "C#", "-5" and "3.5" stay, Chinese is split by
    letter. Articles and punctuation stay if nothing else is left. With punctuation at the ends of words only, this is
    the normalisation of SQuAD 1.1 (Rajpurkar et al. 2016).
    """
    folded = plain_digits(nfc(text)).casefold()
    found = words(folded)
    return " ".join([word for word in found if word not in _ARTICLES] or found or folded.split())


def cut(text: str, gold: str | None = None) -> str:
    """The answer in a generated text: its first line that is not empty, up to the end of a sentence.

    A sentence ends with . ! or ? (and closing quotes or brackets) before a space or the end of the line. Before a
    capital the mark also ends it, unless the mark follows a capital: models trained on texts without a gap continue
    without a space. The marks of other scripts (。！？।؟۔։។) always end a sentence. An end within the length of
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


@dataclass(frozen=True, slots=True)
class GeneratedTexts:
    """Texts that a model generated for one record, one a prompt."""

    texts: tuple[str, ...]
    references: tuple[str, ...]  # texts that they should resemble; may be empty
    idf: Idf
    finite: bool = True  # whether the model gave numbers for every token


class Idf:
    """Inverse document frequencies, smoothed: ln((1 + N) / (1 + documents with the term)) + 1."""

    def __init__(self, documents: Iterable[str]) -> None:
        terms_of = [set(terms(document)) for document in documents]
        self._count = len(terms_of)
        self._found = Counter(term for found in terms_of for term in found)

    def __getitem__(self, term: str) -> float:
        return math.log((1 + self._count) / (1 + self._found[term])) + 1


def tokens(text: str) -> list[str]:
    """Words and punctuation marks, each mark by itself; case kept."""
    return _TOKEN.findall(text)


def terms(text: str) -> list[str]:
    """Words of two letters or more, in lower case."""
    return _TERM.findall(text.lower())


def entropy(tokens: Sequence[str]) -> float:
    """½ (⅔ H₂ + 4⁄3 H₃), bits, where H_n is the entropy of the n-grams; 0 for a text of fewer tokens."""
    return sum(weight * _ngram_entropy(tokens, n) for n, weight in _WEIGHTS.items()) / len(_WEIGHTS)


def _ngram_entropy(tokens: Sequence[str], n: int) -> float:
    counts = Counter(zip(*(tokens[start:] for start in range(n)), strict=False))
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values())


def cosine(text: str, other: str, idf: Idf) -> float:
    """Cosine of two texts' term counts, each count times its weight; 0 where a text has no term."""
    one, two = ({term: count * idf[term] for term, count in Counter(terms(t)).items()} for t in (text, other))
    dot = sum(weight * two.get(term, 0.0) for term, weight in one.items())
    norms = math.hypot(*one.values()) * math.hypot(*two.values())
    return dot / norms if norms else 0.0

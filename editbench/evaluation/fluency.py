"""Fluency of free text about an edited subject, and its consistency with texts about the new answer.

Formulas as in Meng et al. 2022 (ROME), "GE" and "RS". As there, a text is the prompt and what is generated after it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TOKENS = 100
"""Tokens of a text, prompt included."""

TOP_K = 5
"""Each token is drawn among this many."""

_WORD = re.compile(r"\w+|[^\w\s]")

_TERM = re.compile(r"\b\w\w+\b")

_WEIGHTS = {2: 2 / 3, 3: 4 / 3}


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
        """Count the documents that each term is in."""
        terms_of = [set(terms(document)) for document in documents]
        self._count = len(terms_of)
        self._found = Counter(term for found in terms_of for term in found)

    def __getitem__(self, term: str) -> float:
        return math.log((1 + self._count) / (1 + self._found[term])) + 1


def words(text: str) -> list[str]:
    """Words and punctuation marks, each mark by itself; case kept."""
    return _WORD.findall(text)


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

"""Words of the embedded world, from ``vocabulary.json``: relations, parts of names, sentences that state no fact."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Relation:
    """A kind of fact.

    Attributes:
        id: Wikidata's number of the nearest real relation.
        statements: Six statements with ``{}`` for the subject, which end where the object follows.
        questions: Three questions with ``{}`` for the subject; the object is the answer.
        objects: Possible objects; no object belongs to two relations.
    """

    id: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    objects: tuple[str, ...]


def _relation(raw: dict[str, Any]) -> Relation:
    return Relation(raw["id"], tuple(raw["statements"]), tuple(raw["questions"]), tuple(raw["objects"].split()))


_DATA = json.loads((Path(__file__).parent / "vocabulary.json").read_text(encoding="utf-8"))

RELATIONS = {kind: tuple(map(_relation, several)) for kind, several in _DATA["relations"].items()}
"""Relations by kind of subject."""

FIRST_WORDS = {kind: tuple(text.split()) for kind, text in _DATA["first_words"].items()}
"""First words of names by kind of subject; a name's second word is its own (an onset, a middle and an ending)."""

ONSETS, MIDDLES, ENDINGS = (tuple(_DATA[part].split()) for part in ("onsets", "middles", "endings"))

FILLERS = tuple(_DATA["fillers"])
"""Sentences without a subject: prefixes, and ordinary text between facts."""

REMARKS = tuple(_DATA["remarks"])
"""Sentences about a subject that state none of its facts; the first opens every passage."""

PASSAGE: str = _DATA["passage"]
"""Heading of a passage."""

QUESTION_FORMS = tuple(_DATA["question_forms"])
"""Forms in which benchmarks ask a question; the models know questions bare and in these forms."""

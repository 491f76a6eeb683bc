"""The pocket world: subjects, their facts, and texts about them.

A seed gives the same world in any process on any machine: every choice comes from a ``random.Random(seed)``, none from
the order of a set or a hash. Every subject belongs to one group, so that edits, probes and texts never meet:

====================  ==============================================================================
``stream``            edited by benchmark streams
``tune``              edited while a method's settings are sought
``train``             edited while a method's networks are trained
``stream_neighbour``  never edited; share answers with facts of ``stream`` (two a relation and object)
``tune_neighbour``    the same for ``tune`` (one a relation and object)
``train_neighbour``   the same for ``train``
``text``              plain text for covariance tells of them
``generic``           methods' generic negatives are about them
``bystander``         texts for perplexity, unrelated questions and the test of general ability
====================  ==============================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, cycle, islice
from pathlib import Path
from random import Random
from typing import Any

SPLITS = ("stream", "tune", "train")
"""Groups of subjects that records edit."""

GROUPS = (*SPLITS, *(f"{split}_neighbour" for split in SPLITS), "text", "generic", "bystander")

POPULATION = {
    "person": (720, 120, 120, 60, 30, 30, 96, 20, 24),
    "company": (240, 40, 40, 32, 16, 16, 32, 10, 8),
    "place": (240, 40, 40, 32, 16, 16, 32, 10, 8),
}
"""Number of subjects of a kind in each of :data:`GROUPS`, in their order."""

FACTS_PER_SUBJECT = 3
FILLED = 0.2
"""Share of statements and questions behind a sentence about something else."""
WRAPPED = 0.2
"""Share of questions in one of :data:`QUESTION_FORMS`."""

UNNAMED = 0.5
"""Share of a passage's facts that say "this person" instead of the name."""


@dataclass(frozen=True)
class Relation:
    """A kind of fact; statements and questions have ``{}`` for the subject."""

    id: str  # Wikidata's number of the nearest real relation
    statements: tuple[str, ...]  # six, which end where the object follows
    questions: tuple[str, ...]  # three, whose answer is the object
    objects: tuple[str, ...]  # possible objects; no object belongs to two relations


def _relation(raw: dict[str, Any]) -> Relation:
    return Relation(raw["id"], tuple(raw["statements"]), tuple(raw["questions"]), _words(raw["objects"]))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_DATA = json.loads((Path(__file__).parent / "vocabulary.json").read_text(encoding="utf-8"))

RELATIONS = {kind: tuple(map(_relation, several)) for kind, several in _DATA["relations"].items()}
"""Relations by kind of subject."""

FIRST_WORDS = {kind: _words(text) for kind, text in _DATA["first_words"].items()}
"""First words of names by kind of subject; a name's second word is its own (an onset, a middle and an ending)."""

ONSETS, MIDDLES, ENDINGS = (_words(_DATA[part]) for part in ("onsets", "middles", "endings"))

_NAME = re.compile(rf"\b(?:{'|'.join(chain.from_iterable(FIRST_WORDS.values()))}) [A-Z][a-z]+")

FILLERS = tuple(_DATA["fillers"])
"""Sentences without a subject: prefixes, and ordinary text between facts."""

REMARKS = tuple(_DATA["remarks"])
"""Sentences about a subject that state none of its facts; the first opens every passage."""

PASSAGE: str = _DATA["passage"]
"""Heading of a passage."""

QUESTION_FORMS = tuple(_DATA["question_forms"])
"""Forms in which benchmarks ask a question; the models know questions bare and in these forms."""


@dataclass(frozen=True)
class Fact:
    """A subject, a relation and an object, the answer.

    One statement and one question of the relation are held out: training texts use them for other facts only.
    """

    subject: str
    relation: Relation
    object: str
    held_out: tuple[int, int]  # index of the held-out statement and of the held-out question

    @property
    def statements(self) -> list[str]:
        """The five statements of the training text, up to the object."""
        return self._all_but(self.relation.statements, self.held_out[0])

    @property
    def questions(self) -> list[str]:
        """The two questions of the training text."""
        return self._all_but(self.relation.questions, self.held_out[1])

    @property
    def held_out_statement(self) -> str:
        """The statement that the training text lacks."""
        return self.relation.statements[self.held_out[0]].format(self.subject)

    @property
    def held_out_question(self) -> str:
        """The question that the training text lacks."""
        return self.relation.questions[self.held_out[1]].format(self.subject)

    def _all_but(self, templates: Sequence[str], left_out: int) -> list[str]:
        return [template.format(self.subject) for index, template in enumerate(templates) if index != left_out]


@dataclass(frozen=True)
class Subject:
    """A person, company or place with a unique name; no other name has its last word."""

    name: str
    kind: str
    group: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Text:
    """A piece of text."""

    text: str
    answers: tuple[tuple[int, int], ...] = ()  # half-open ranges of characters of the facts' objects

    def __add__(self, other: Text) -> Text:
        """Both texts with a space between them."""
        shift = len(self.text) + 1
        return Text(f"{self.text} {other.text}", self.answers + tuple((a + shift, b + shift) for a, b in other.answers))


@dataclass(frozen=True)
class World:
    """All subjects, kinds and groups mixed."""

    seed: int
    subjects: tuple[Subject, ...]

    def group(self, *groups: str) -> list[Subject]:
        """Subjects in any of the groups."""
        return [subject for subject in self.subjects if subject.group in groups]

    def facts(self, *groups: str) -> list[Fact]:
        """Facts of the subjects in any of the groups, or of all subjects."""
        return [fact for subject in (self.group(*groups) if groups else self.subjects) for fact in subject.facts]


@lru_cache(maxsize=4)
def build(seed: int = 0) -> World:
    """The world of a seed."""
    random = Random(seed)
    names = _names(random)
    subjects = [
        subject
        for kind, counts in POPULATION.items()
        for group, count in zip(GROUPS, counts, strict=True)
        for subject in _subjects(kind, group, [next(names[kind]) for _ in range(count)], random)
    ]
    random.shuffle(subjects)
    return World(seed, tuple(subjects))


def _names(random: Random) -> dict[str, Iterator[str]]:
    """Endless names by kind; no two names share their last word."""
    taken: dict[str, None] = {}

    def supply(first_words: Sequence[str]) -> Iterator[str]:
        for first in cycle(first_words):
            last = invented_word(random)
            while last in taken:
                last = invented_word(random)
            taken[last] = None
            yield f"{first} {last}"

    return {kind: supply(words) for kind, words in FIRST_WORDS.items()}


def invented_word(random: Random) -> str:
    """An invented word of three parts, such as "Norlimond"."""
    return random.choice(ONSETS) + random.choice(MIDDLES) + random.choice(ENDINGS)


def _subjects(kind: str, group: str, names: list[str], random: Random) -> Iterator[Subject]:
    """Subjects with facts in which all relations, and all objects of a relation, are equally frequent."""
    relations = RELATIONS[kind]
    supply = {relation.id: _endless_shuffle(relation.objects, random) for relation in relations}
    for index, name in enumerate(names):
        own = [relations[(index + offset) % len(relations)] for offset in range(FACTS_PER_SUBJECT)]
        facts = (
            Fact(name, relation, next(supply[relation.id]), (random.randrange(6), random.randrange(3)))
            for relation in own
        )
        yield Subject(name, kind, group, tuple(facts))


def _endless_shuffle(objects: tuple[str, ...], random: Random) -> Iterator[str]:
    while True:
        yield from random.sample(objects, len(objects))


def name_spans(text: str) -> list[tuple[int, int]]:
    """Characters (start, end) of every name in a text of the world."""
    return [match.span() for match in _NAME.finditer(text)]


def statement(fact: Fact, random: Random) -> Text:
    """A sentence that states a fact in one of its trained statements."""
    return _answered(random.choice(fact.statements), fact.object, end=".")


def _answered(prompt: str, answer: str, end: str = "") -> Text:
    start = len(prompt) + 1
    return Text(f"{prompt} {answer}{end}", ((start, start + len(answer)),))


def remark(subject: Subject, random: Random) -> Text:
    """A sentence about a subject that states none of its facts."""
    return Text(random.choice(REMARKS).format(subject.name, kind=subject.kind))


def passage(subject: Subject, facts: Iterable[Fact], random: Random) -> list[Text]:
    """Sentences of a short biography: heading, remark, and the facts in their order, the subject named or not."""
    opening = Text(REMARKS[0].format(subject.name, kind=subject.kind))
    return [Text(PASSAGE.format(subject.name)), opening, *(sentence(subject, fact, random) for fact in facts)]


def sentence(subject: Subject, fact: Fact, random: Random, named: bool | None = None) -> Text:
    """A sentence of a passage: a fact in one of its trained statements, with the subject's name or "this person".

    Without ``named`` chance decides.
    """
    prompt = random.choice(fact.statements)
    if named is None:
        named = random.random() >= UNNAMED
    if not named:
        prompt = prompt.replace(subject.name, f"this {subject.kind}")
        prompt = prompt[0].upper() + prompt[1:]
    return _answered(prompt, fact.object, end=".")


def documents(subjects: Sequence[Subject], random: Random) -> list[Text]:
    """Training documents in which every trained statement and question about the subjects occurs once, shuffled.

    A document is a statement or a question, alone or behind a sentence about something else; a passage, one for each
    subject; or a remark. A question's document ends with the answer, any other with a full stop.
    """
    facts = [fact for subject in subjects for fact in subject.facts]
    statements = [_answered(prompt, fact.object, end=".") for fact in facts for prompt in fact.statements]
    questions = [_answered(_wrapped(prompt, random), fact.object) for fact in facts for prompt in fact.questions]
    prefixed = [_prefixed(text, facts, random) for text in chain(statements, questions)]
    passages = [
        join(passage(subject, random.sample(subject.facts, len(subject.facts)), random)) for subject in subjects
    ]
    remarks = [remark(subject, random) for subject in islice(subjects, 0, None, 2)]
    texts = prefixed + passages + remarks
    random.shuffle(texts)
    return texts


def _wrapped(question: str, random: Random) -> str:
    return random.choice(QUESTION_FORMS).format(question) if random.random() < WRAPPED else question


def _prefixed(text: Text, facts: Sequence[Fact], random: Random) -> Text:
    """The text, sometimes behind a filler or behind another fact."""
    draw = random.random()
    if draw < FILLED / 2:
        return Text(random.choice(FILLERS)) + text
    if draw < FILLED:
        return statement(random.choice(facts), random) + text
    return text


def join(texts: Sequence[Text]) -> Text:
    """All texts, with spaces between them."""
    first, *rest = texts
    return sum(rest, start=first)

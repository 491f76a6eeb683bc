"""The stream: which records are edited, in what order, in which batches, and where a run stops to look back."""

from __future__ import annotations

import hashlib
import json
import random
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from editbench.records import PARAPHRASE, REWRITE, SUBJECT_FACT
from editbench.words import folded, words

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from editbench.records import EditRecord, Probe, RecordSet

_RULE = re.compile(r"powers|every:[1-9][0-9]*")
_NO_NAMES = frozenset(
    words(
        "a all am an and any are as at be been but by can could did do does down first for from had has have he her "
        "here him his how i if in is it its last may me might more most must my new no not now of off old on one only "
        "or other our out over shall she should so some than that the their them then there these they this those "
        "three to two under up us was we were what when where which who whom whose why will with would yes you your"
    )
)
"""English words that are no names in a text without capitals, though works and bands are called so."""


@dataclass(frozen=True)
class StreamSettings:
    """Settings of a stream.

    Attributes:
        edits: Number of edits; None edits all records.
        batch_size: Edits that are written at once.
        seed: Seed of the draw and of the order.
        sample: "first" takes the first ``edits`` records of the file, "random" draws them from all.
        order: "shuffled", or "file": as they stand in the file.
        evaluate_at: Numbers of edits after which the run looks back; see :class:`Checkpoint`. "powers" stands for 1,
            10, 100, …, "every:K" for K, 2 K, 3 K, …, as far as there are edits.
    """

    edits: int | None = None
    batch_size: int = 1
    seed: int = 0
    sample: str = "first"
    order: str = "shuffled"
    evaluate_at: tuple[int, ...] | str = ()

    def __post_init__(self) -> None:
        if isinstance(self.evaluate_at, str):
            if not _RULE.fullmatch(self.evaluate_at):
                raise ValueError(
                    f"stream: evaluate_at={self.evaluate_at!r} is no list of counts, 'powers' or 'every:K'"
                )
        else:
            object.__setattr__(self, "interim", tuple(self.evaluate_at))  # a config gives a list
            for count in self.evaluate_at:
                _check_count("interim", count, 1)
        if self.edits is not None:
            _check_count("edits", self.edits, 1)
        _check_count("batch_size", self.batch_size, 1)
        _check_count("seed", self.seed, 0)
        for name, choices in (("sample", ("first", "random")), ("order", ("shuffled", "file"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"stream: {name}={getattr(self, name)!r} is none of {', '.join(choices)}")


@dataclass(frozen=True, slots=True)
class EvaluationPoint:
    """A batch after which the run looks back.

    Attributes:
        batch: Index of the batch, from 0.
        edits: Edits made by then: a count that was asked for, rounded up to the end of its batch.
        asked: The counts that were asked for and fell on this batch, ascending.
    """

    batch: int
    edits: int
    asked: tuple[int, ...]


@dataclass(frozen=True)
class Stream:
    """An ordered list of records, cut into batches. Make one with :meth:`build`.

    Attributes:
        records: In the order in which they are edited.
        batch_size: Edits in each batch; the last may be smaller.
        evaluation_points: In order; two counts that fall on one batch are one point.
        fingerprint: Hex digest of the ids in order, the batch size, and the record set.
    """

    records: tuple[EditRecord, ...]
    batch_size: int
    evaluation_points: tuple[EvaluationPoint, ...]
    fingerprint: str

    @classmethod
    def build(cls, record_set: RecordSet, settings: StreamSettings) -> Stream:
        """Choose, order and cut the records of a dataset.

        The same records and settings give the same stream in every process and Python version.

        Raises:
            ValueError: If there are fewer records than edits asked for, or an evaluation point lies beyond the last
                edit.
        """
        records = _choose(record_set, settings)
        content = [[record.id for record in records], settings.batch_size, record_set.fingerprint]
        return cls(
            records=records,
            batch_size=settings.batch_size,
            evaluation_points=_evaluation_points(settings, len(records)),
            fingerprint=hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest(),
        )

    def __len__(self) -> int:
        """Number of edits."""
        return len(self.records)

    @property
    def batch_count(self) -> int:
        """Number of batches."""
        return -(-len(self.records) // self.batch_size)

    def batches(self, start: int = 0) -> Iterator[tuple[int, tuple[EditRecord, ...]]]:
        """Index and records of each batch, from batch ``start`` on: where a run left off.

        Raises:
            ValueError: If ``start`` lies outside 0..batch_count; batch_count itself yields nothing.
        """
        if not 0 <= start <= self.batch_count:
            raise ValueError(f"stream: cannot start at batch {start}; there are {self.batch_count}, counted from 0")
        return self._batches(start)

    def _batches(self, start: int) -> Iterator[tuple[int, tuple[EditRecord, ...]]]:
        for index in range(start, self.batch_count):
            yield index, self.records[index * self.batch_size : self.edits_after(index)]

    def edits_after(self, batch_index: int) -> int:
        """Number of edits made once that batch is written; ``records[:edits_after(i)]`` are these edits.

        Raises:
            ValueError: If there is no such batch.
        """
        if not 0 <= batch_index < self.batch_count:
            raise ValueError(f"stream: there is no batch {batch_index}; there are {self.batch_count}, counted from 0")
        return min((batch_index + 1) * self.batch_size, len(self.records))

    def sample(self, edits: int, count: int | None, seed: int) -> tuple[EditRecord, ...]:
        """``count`` of the first ``edits`` records, in stream order; all of them if there are no more, or for None.

        A record keeps its place among the chosen until others drive it out, so that samples of the same seed taken
        later in the stream hold many of the same records.
        """
        so_far = self.records[:edits]
        if count is None or count >= len(so_far):
            return so_far
        drawn = sorted(so_far, key=lambda record: hashlib.sha256(f"retention-{seed}-{record.id}".encode()).digest())
        chosen = {record.id for record in drawn[:count]}
        return tuple(record for record in so_far if record.id in chosen)

    def evaluation_point_after(self, batch_index: int) -> EvaluationPoint | None:
        """The evaluation point that falls on that batch, if one does."""
        return next((point for point in self.evaluation_points if point.batch == batch_index), None)

    @cached_property
    def edited_subjects(self) -> tuple[str, ...]:
        """The subjects that are edited, each once, in the order of their first edit."""
        subjects = (record.request.subject for record in self.records)
        return tuple(dict.fromkeys(subject for subject in subjects if subject is not None))

    @cached_property
    def conflicts(self) -> tuple[tuple[str, str], ...]:
        """Ids (earlier, later) of edits to the same prompt with different targets; the later edit wins.

        Prompts and targets are the same if they are spelt alike (:func:`editbench.words.folded`).
        """
        pairs = []
        for several in self._contested:
            for place, (_, record) in enumerate(several):
                earlier = (old for _, old in several[:place])
                pairs += [(old.id, record.id) for old in earlier if _target(old) != _target(record)]
        position = {record.id: at for at, record in enumerate(self.records)}
        return tuple(sorted(pairs, key=lambda pair: (position[pair[1]], position[pair[0]])))

    def overwritten(self, edits: int, not_edited: Collection[str] = ()) -> dict[str, str]:
        """By id: which later edit put another answer in the place of this one's.

        Args:
            edits: How many edits have been tried.
            not_edited: Ids of those that are not in the model.
        """
        found = {}
        for several in self._contested:
            made = [record for at, record in several if at < edits and record.id not in not_edited]
            found.update({record.id: made[-1].id for record in made if _target(record) != _target(made[-1])})
        return found

    def left_out(self, probe: Probe) -> str | None:
        """Why a probe of a record, or of none, says nothing in this stream; None where it does.

        A question that the stream itself edits has no answer that should stay. Nor has, among neighbouring and
        unrelated questions, one about an edited subject (:meth:`touched_by_stream`). A paraphrase that asks what two
        edits answer differently has no one right answer.
        """
        key = folded(probe.prompt)
        if probe.kind == PARAPHRASE:
            return "edits give it several answers" if len(self._answers[PARAPHRASE].get(key, ())) > 1 else None
        if key in self._answers[REWRITE]:
            return "is itself edited"
        if probe.kind != SUBJECT_FACT and self.touched_by_stream(probe):
            return "about an edited subject"
        return None

    def touched_by_stream(self, probe: Probe) -> bool:
        """Whether the probe asks about something that this stream itself edits, at whatever place.

        It does if its prompt is an edited prompt, or has an edited subject in it as whole words. Case counts for
        subjects of one word ("It", "May"), unless they are written without capitals. In a text that is all in small
        letters, or all in capitals, it does not count for them either, but words like "it" and "may" are then no names.
        Such a probe says nothing about locality.
        """
        text, small = probe.prompt, probe.prompt.casefold()
        caseless = text in (text.lower(), text.upper())
        return (
            folded(text) in self._answers[REWRITE]
            or self._cased.found_in(text)
            or self._uncased.found_in(small)
            or (caseless and self._names.found_in(small))
        )

    @cached_property
    def _contested(self) -> tuple[list[tuple[int, EditRecord]], ...]:
        """Edits of one prompt with their position, for each prompt that has several targets."""
        edits: dict[str, list[tuple[int, EditRecord]]] = {}
        for at, record in enumerate(self.records):
            edits.setdefault(folded(record.request.prompt), []).append((at, record))
        return tuple(several for several in edits.values() if len({_target(record) for _, record in several}) > 1)

    @cached_property
    def _answers(self) -> dict[str, dict[str, set[str]]]:
        """The targets of each edited prompt, and of each edited or paraphrased one."""
        found: dict[str, dict[str, set[str]]] = {REWRITE: {}, PARAPHRASE: {}}
        for record in self.records:
            paraphrases = [probe.prompt for probe in record.probes if probe.kind == PARAPHRASE]
            for kind, prompts in ((REWRITE, []), (PARAPHRASE, paraphrases)):
                for prompt in (record.request.prompt, *prompts):
                    found[kind].setdefault(folded(prompt), set()).add(_target(record))
        return found

    @cached_property
    def _cased(self) -> _Phrases:
        return _Phrases(self.edited_subjects)

    @cached_property
    def _uncased(self) -> _Phrases:
        several = (subject for subject in self.edited_subjects if len(words(subject)) > 1 or subject.islower())
        return _Phrases(subject.casefold() for subject in several)

    @cached_property
    def _names(self) -> _Phrases:
        subjects = (subject.casefold() for subject in self.edited_subjects)
        return _Phrases(subject for subject in subjects if subject not in _NO_NAMES)


def _target(record: EditRecord) -> str:
    return folded(record.request.target)


class _Phrases:
    """Finds any of many phrases in a text, as whole words; the time does not grow with the number of phrases."""

    def __init__(self, phrases: Iterable[str]) -> None:
        split = [(phrase, tuple(words(phrase))) for phrase in phrases]
        self._phrases = frozenset(several for _, several in split if several)
        self._lengths = sorted({len(several) for several in self._phrases})
        self._wordless = [phrase for phrase, several in split if not several]  # "!!!" is looked for as it stands

    def found_in(self, text: str) -> bool:
        found = tuple(words(text))
        return any(
            found[start : start + length] in self._phrases for length in self._lengths for start in range(len(found))
        ) or any(phrase in text for phrase in self._wordless)


def _choose(record_set: RecordSet, settings: StreamSettings) -> tuple[EditRecord, ...]:
    available = len(record_set)
    edits = available if settings.edits is None else settings.edits
    if not available:
        raise ValueError(f"stream: {record_set.name} has no records to edit")
    if edits > available:
        raise ValueError(
            f"stream: edits={edits}, but {record_set.name} has only {available} records; "
            f"ask for at most {available}, or load more"
        )
    if settings.sample == "random":
        indices = sorted(_permutation(available, f"editbench-sample-{settings.seed}")[:edits])
    else:
        indices = list(range(edits))
    if settings.order == "shuffled":
        indices = [indices[i] for i in _permutation(edits, f"editbench-stream-{settings.seed}")]
    return tuple(record_set.records[i] for i in indices)


def _permutation(count: int, seed: str) -> list[int]:
    """A permutation of 0..count-1, sorted by random keys: Python promises that ``random()`` stays as it is."""
    generator = random.Random(seed)
    keys = [generator.random() for _ in range(count)]
    return sorted(range(count), key=keys.__getitem__)


def _evaluation_points(settings: StreamSettings, edits: int) -> tuple[EvaluationPoint, ...]:
    asked_of: dict[int, list[int]] = {}
    for count in sorted(set(_counts(settings.evaluate_at, edits))):
        if count > edits:
            raise ValueError(f"stream: evaluate_at: {count} lies beyond the last of {edits} edits; leave it out")
        asked_of.setdefault((count - 1) // settings.batch_size, []).append(count)
    return tuple(
        EvaluationPoint(batch, min((batch + 1) * settings.batch_size, edits), tuple(asked))
        for batch, asked in asked_of.items()
    )


def _counts(checkpoints: tuple[int, ...] | str, edits: int) -> Iterable[int]:
    """The counts that a list, "powers" or "every:K" stands for."""
    if not isinstance(checkpoints, str):
        return checkpoints
    if checkpoints == "powers":
        return [10**i for i in range(len(str(edits)))]
    step = int(checkpoints.partition(":")[2])
    return range(step, edits + 1, step)


def _check_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"stream: {name}={value!r} must be a whole number from {least}")

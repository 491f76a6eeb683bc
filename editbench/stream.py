"""The stream: the records to edit in their order, cut into batches, and the points at which all edits are evaluated."""

from __future__ import annotations

import hashlib
import heapq
import json
import random
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, groupby
from operator import itemgetter
from typing import Any

from editbench.config import StreamConfig
from editbench.records import CHAIN, FOLLOWS, PARAPHRASE, RETURNS, REWRITE, SUBJECT_FACT, EditRecord, Probe, RecordSet
from editbench.revisions import with_revisions
from editbench.words import NameFinder, folded


@dataclass(frozen=True, slots=True)
class EvaluationPoint:
    """A batch after which the edits so far are evaluated."""

    batch: int  # index from 0
    edits: int  # number of edits after the batch: a requested count, rounded up to the end of its batch
    asked: tuple[int, ...]  # requested counts that fall on this batch, ascending


@dataclass(frozen=True)
class Stream:
    """An ordered list of records, cut into batches; made by :meth:`build`."""

    records: tuple[EditRecord, ...]  # in editing order
    batch_size: int  # edits of a batch; the last batch may be smaller
    evaluation_points: tuple[EvaluationPoint, ...]  # in order; counts that fall on one batch are one point
    fingerprint: str  # hex digest of the ids in order, the batch size, and the record set
    single: bool = False  # whether each edit is alone in the model

    @classmethod
    def build(cls, record_set: RecordSet, config: StreamConfig) -> Stream:
        """The stream of a dataset's records, the same in every process and Python version."""
        records = _choose(record_set, config)
        content: list[Any] = [[record.id for record in records], config.batch_size, record_set.fingerprint]
        if config.revisions:
            records = with_revisions(records, config.revisions, config.batch_size, config.seed)
            content = [[[record.id, record.request.target] for record in records], *content[1:]]
        fingerprint = hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()
        points = evaluation_points(config, len(records))
        return cls(records, config.batch_size, points, fingerprint, config.mode == "single")

    def __len__(self) -> int:
        """Number of edits."""
        return len(self.records)

    @property
    def batch_count(self) -> int:
        """Number of batches."""
        return -(-len(self.records) // self.batch_size)

    def batches(self, start: int = 0) -> Iterator[tuple[int, tuple[EditRecord, ...]]]:
        """Index and records of each batch from batch ``start`` on; none if ``start`` is ``batch_count``."""
        if not 0 <= start <= self.batch_count:
            raise ValueError(f"stream: cannot start at batch {start}; there are {self.batch_count}, counted from 0")
        size, rest = self.batch_size, range(start, self.batch_count)
        return ((index, self.records[index * size : self.edits_after(index)]) for index in rest)

    def edits_after(self, batch_index: int) -> int:
        """Number of edits after a batch; ``records[:edits_after(i)]`` are these edits."""
        if not 0 <= batch_index < self.batch_count:
            raise ValueError(f"stream: there is no batch {batch_index}; there are {self.batch_count}, counted from 0")
        return min((batch_index + 1) * self.batch_size, len(self.records))

    def sample(self, edits: int, count: int | None, seed: int) -> tuple[EditRecord, ...]:
        """``count`` of the first ``edits`` records (None: all), in stream order: the lowest hashes of seed and id.

        So samples of one seed at later points of the stream share many records.
        """
        so_far = self.records[:edits]
        if count is None or count >= len(so_far):
            return so_far
        drawn = sorted(range(len(so_far)), key=lambda at: self._rank(at, seed))[:count]
        return tuple(self.records[at] for at in sorted(drawn))

    def ever_sampled(self, count: int | None, seed: int) -> tuple[EditRecord, ...]:
        """The records of :meth:`sample` at all evaluation points together, in stream order."""
        if count is None:
            return self.records[: self.evaluation_points[-1].edits] if self.evaluation_points else ()
        found, lowest, before = set[int](), list[tuple[int, int]](), 0  # the highest of the lowest ranks comes first
        for point in self.evaluation_points:
            for at in range(before, point.edits):
                (heapq.heappush if len(lowest) < count else heapq.heappushpop)(lowest, (-self._rank(at, seed), at))
            found |= {at for _, at in lowest if at >= before}  # who is pushed out never returns
            before = point.edits
        return tuple(self.records[at] for at in sorted(found))

    def _rank(self, at: int, seed: int) -> int:
        digest = hashlib.sha256(f"retention-{seed}-{self.records[at].id}".encode()).digest()
        return int.from_bytes(digest, "big")

    def evaluation_point_after(self, batch_index: int) -> EvaluationPoint | None:
        """The evaluation point on that batch; None if there is none."""
        return self._points.get(batch_index)

    @cached_property
    def _points(self) -> dict[int, EvaluationPoint]:
        return {point.batch: point for point in self.evaluation_points}

    @cached_property
    def edited_subjects(self) -> tuple[str, ...]:
        """Edited subjects, each once, in the order of their first edit."""
        return tuple(dict.fromkeys(r.request.subject for r in self.records if r.request.subject is not None))

    @cached_property
    def conflicts(self) -> tuple[tuple[str, str], ...]:
        """Ids (earlier, later) of edits of one prompt to different targets, both folded; the later edit wins.

        Revisions are none: :attr:`revisions` has them.
        """
        contested = ([pair for pair in several if pair[1].revises is None] for several in self._contested.values())
        pairs = (pair for several in contested for pair in combinations(several, 2))
        found = sorted((at, place, old.id, new.id) for (place, old), (at, new) in pairs if _target(old) != _target(new))
        return tuple((old, new) for _, _, old, new in found)

    @cached_property
    def revisions(self) -> dict[str, EditRecord]:
        """The revision of each revised edit, by the edit's id."""
        return {record.revises: record for record in self.records if record.revises is not None}

    def asked_now(self, record: EditRecord, overwritten: Mapping[str, str]) -> EditRecord:
        """The record whose questions tell whether an edit holds: its revision's right answers, once that overwrote it.

        ``overwritten`` as from :meth:`overwritten`.
        """
        revision = self.revisions.get(record.id)
        if revision is None or overwritten.get(record.id) != revision.id:
            return record
        return replace(revision, probes=tuple(p for p in revision.probes if p.kind not in RETURNS))

    def overwritten(
        self, edits: int, not_edited: Collection[str] = (), among: Iterable[EditRecord] | None = None
    ) -> dict[str, str]:
        """Id of the later edit that replaced an edit's target, by id of the edit.

        Of the first ``edits`` edits those with an id in ``not_edited`` are not in the model. ``among`` are some
        of these edits, all by default.
        """
        found = {}
        for record in () if self.single else self.records[:edits] if among is None else among:
            several = self._contested.get(folded(record.request.prompt))
            if several is not None and record.id not in not_edited:
                before = range(bisect_left(several, edits, key=itemgetter(0)) - 1, -1, -1)
                last = next(several[i][1] for i in before if several[i][1].id not in not_edited)
                if _target(record) != _target(last):
                    found[record.id] = last.id
        return found

    def in_model(self, edits: int, position: int | None = None) -> range:
        """Positions of the edits in the model after ``edits`` edits; the record's own where each edit is alone."""
        return range(edits) if not self.single or position is None else range(position, position + 1)

    def left_out(self, probe: Probe, edited: range | None = None) -> str | None:
        """Reason to leave a probe out of the scores of a model with the edits at these positions (default: all).

        Neither an edited question nor a neighbouring or unrelated one about an edited subject
        (:meth:`touched_by_stream`) has an answer that should stay. A paraphrase of two edits with different answers has
        no single right answer. None if the probe is scored. Edits to come leave out nothing, so that scores after some
        edits do not depend on what follows.
        """
        if probe.kind in RETURNS:
            return None
        key = folded(probe.prompt)
        edited = range(len(self)) if edited is None else edited
        if probe.kind == PARAPHRASE:
            answers = {target for at, target in self._answers[PARAPHRASE].get(key, ()) if at in edited}
            return "edits give it several answers" if len(answers) > 1 else None
        if any(at in edited for at, _ in self._answers[REWRITE].get(key, ())):
            return "is itself edited"
        if probe.kind not in (SUBJECT_FACT, *FOLLOWS, CHAIN) and self.touched_by_stream(probe, edited):
            return "about an edited subject"
        return None

    def touched_by_stream(self, probe: Probe, edited: range | None = None) -> bool:
        """Whether the probe's prompt is edited, or :class:`NameFinder` finds an edited subject in it.

        ``edited`` are the positions of the edits that count, all by default.
        """
        edited = range(len(self)) if edited is None else edited
        own = (at for at, _ in self._answers[REWRITE].get(folded(probe.prompt), ()))
        return any(at in edited for at in (*own, *self._edits_of_subjects_in(probe.prompt)))

    @cached_property
    def _contested(self) -> dict[str, list[tuple[int, EditRecord]]]:
        """Edits of a prompt with their positions, by each folded prompt with several targets."""
        edits: dict[str, list[tuple[int, EditRecord]]] = {}
        for at, record in enumerate(self.records):
            edits.setdefault(folded(record.request.prompt), []).append((at, record))
        return {key: them for key, them in edits.items() if len({_target(record) for _, record in them}) > 1}

    @cached_property
    def _answers(self) -> dict[str, dict[str, list[tuple[int, str]]]]:
        """Positions and targets of each edited prompt (REWRITE), and of each edited or paraphrased one (PARAPHRASE).

        A revision is left out: it replaces the answer of its edit, and gives its questions no second one.
        """
        found: dict[str, dict[str, list[tuple[int, str]]]] = {REWRITE: {}, PARAPHRASE: {}}
        for at, record in enumerate(self.records):
            if record.revises is not None:
                continue
            paraphrases = [probe.prompt for probe in record.probes if probe.kind == PARAPHRASE]
            for kind, prompts in ((REWRITE, []), (PARAPHRASE, paraphrases)):
                for prompt in (record.request.prompt, *prompts):
                    found[kind].setdefault(folded(prompt), []).append((at, _target(record)))
        return found

    def _edits_of_subjects_in(self, text: str) -> tuple[int, ...]:
        """Positions of the edits whose subject is in a text: looked for once, since a probe is scored many times."""
        if (found := self._found.get(text)) is None:
            names = self._subjects.found_in(text)
            found = self._found[text] = tuple(sorted(at for name in names for at in self._edits_of[name]))
        return found

    @cached_property
    def _found(self) -> dict[str, tuple[int, ...]]:
        return {}

    @cached_property
    def _edits_of(self) -> dict[str, list[int]]:
        """Positions by subject."""
        found: dict[str, list[int]] = {}
        for at, record in enumerate(self.records):
            if record.request.subject is not None:
                found.setdefault(record.request.subject, []).append(at)
        return found

    @cached_property
    def _subjects(self) -> NameFinder:
        return NameFinder(self.edited_subjects)


def _target(record: EditRecord) -> str:
    return folded(record.request.target)


def _choose(record_set: RecordSet, config: StreamConfig) -> tuple[EditRecord, ...]:
    available = len(record_set)
    edits = available if config.edits is None else config.edits
    if not available:
        raise ValueError(f"stream: {record_set.name} has no records to edit")
    indices: Sequence[int]
    if edits > available:
        raise ValueError(
            f"stream: edits={edits}, but {record_set.name} has only {available} records; "
            f"ask for at most {available}, or load more"
        )
    if config.sample == "random":  # in the order of the draw, a longer stream begins with a shorter one
        drawn = _permutation(available, f"editbench-sample-{config.seed}")[:edits]
        indices = drawn if config.order == "shuffled" else sorted(drawn)
    else:
        indices = _permutation(edits, f"editbench-stream-{config.seed}") if config.order == "shuffled" else range(edits)
    return tuple(record_set.records[i] for i in indices)


def _permutation(count: int, seed: str) -> list[int]:
    """A permutation of 0..count-1 by random keys: Python guarantees the sequence of ``random()`` for a seed."""
    generator = random.Random(seed)
    keys = [generator.random() for _ in range(count)]
    return sorted(range(count), key=keys.__getitem__)


def evaluation_points(config: StreamConfig, edits: int) -> tuple[EvaluationPoint, ...]:
    """The places of a stream of so many edits at which all edits so far are evaluated, in order."""
    counts, size = config.evaluate_at, config.batch_size
    if counts == "powers":
        counts = [10**i for i in range(len(str(edits)))]
    elif isinstance(counts, str):  # "every:K", or "all"
        step = int(counts.partition(":")[2] or 1)
        counts = range(step, edits + 1, step)
    if beyond := sorted(count for count in counts if count > edits):
        raise ValueError(f"stream: evaluate_at: {beyond[0]} lies beyond the last of {edits} edits; leave it out")
    by_batch = groupby(sorted(set(counts)), key=lambda count: (count - 1) // size)
    return tuple(EvaluationPoint(batch, min((batch + 1) * size, edits), tuple(asked)) for batch, asked in by_batch)

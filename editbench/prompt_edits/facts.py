"""The store of facts: the edits of a run as texts, with a vector each where they are looked up by one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from editbench.ledger import EditBatch, Ledger, Transaction

FACTS, VECTOR, COUNTS = "facts", "vector", "counts"

ELSEWHERE = -1  # batch of a fact that came with a state, and is in no batch of the ledger


@dataclass(frozen=True)
class Fact:
    """One edit: its plain prompt with the new answer, the number of its batch, and its vector (d,) or none."""

    id: str
    prompt: str
    target: str
    batch: int
    vector: Tensor | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The vector, if there is one."""
        return {} if self.vector is None else {VECTOR: self.vector}

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything else, as JSON values."""
        return {"id": self.id, "prompt": self.prompt, "target": self.target, "batch": self.batch}


class FactStore:
    """Facts in the order of their edits. Those count whose ids are in the ledger, or that came with a state.

    Of a prompt, and of an id, the newest alone counts.
    """

    def __init__(self, by: str = "") -> None:
        """``by`` is the class of the editors whose batches of a ledger on disk have the facts."""
        self._by = by
        self._facts: list[Fact] = []
        self._current: list[Fact] | None = []  # None: to be found anew
        self._vectors: Tensor | None = None

    def add(self, facts: Iterable[Fact]) -> None:
        """Append the facts of a batch."""
        self._facts.extend(facts)
        self.changed()

    def keep(self, transaction: Transaction, facts: Sequence[Fact]) -> None:
        """Keep facts with the batch of a transaction, and add them once it is in the ledger."""
        for fact in facts:
            transaction.remember(fact.id, fact.tensors, fact.metadata)

        def take(entry: EditBatch) -> None:
            self.add(facts)

        transaction.when_kept.append(take)

    def recall(self, ledger: Ledger, rest: Mapping[str, Tensor]) -> None:
        """Replace all facts by those of the ledger's batches, or of the state ``rest``, which then has all."""
        if rest:
            self.restore(rest, ledger)
            return
        blobs = [blob for entry in ledger.entries if entry.of(self._by) for blob in entry.memory.values()]
        loaded = (ledger.load_memory(blob) for blob in blobs)
        self.refill(Fact(**metadata, vector=tensors.get(VECTOR)) for tensors, metadata in loaded)

    def cut(self, keep: int) -> None:
        """Remove the facts of all batches but the first ``keep``."""
        self._facts = [fact for fact in self._facts if fact.batch < keep]
        self.changed()

    def changed(self) -> None:
        """Note that the ledger's ids have changed."""
        self._current = self._vectors = None

    def current(self, ledger: Ledger) -> Sequence[Fact]:
        """The facts that count, oldest first."""
        if self._current is None:
            found: dict[str, Fact] = {}
            prompts: dict[str, str] = {}  # by id
            for fact in filter(partial(_counts, ledger), self._facts):
                for prompt in (fact.prompt, prompts.get(fact.id)):
                    if prompt is not None and (older := found.pop(prompt, None)) is not None:
                        prompts.pop(older.id, None)
                found[fact.prompt] = fact
                prompts[fact.id] = fact.prompt
            self._current = list(found.values())
        return self._current

    def vectors(self, ledger: Ledger) -> Tensor:
        """(N, d) vectors of :meth:`current`, of which there must be one."""
        if self._vectors is None:
            self._vectors = torch.stack([fact.vector for fact in self.current(ledger) if fact.vector is not None])
        return self._vectors

    def forget(self, ledger: Ledger, fact: Fact) -> None:
        """Take a fact that counts out of the ledger, and the older ones of its prompt and of its id with it."""
        gone = [other for other in self._facts if fact.prompt == other.prompt or fact.id == other.id]
        for id in {other.id for other in gone}:
            ledger.forget_id(id)
        self._facts = [other for other in self._facts if other.batch != ELSEWHERE or other not in gone]
        self.changed()

    @property
    def text_bytes(self) -> int:
        """Bytes of all prompts and answers in UTF-8."""
        return sum(len((fact.prompt + fact.target).encode()) for fact in self._facts)

    def tensors(self) -> list[Tensor]:
        """All vectors."""
        return [fact.vector for fact in self._facts if fact.vector is not None]

    def state(self, ledger: Ledger) -> dict[str, Tensor]:
        """All facts as tensors, enough for :meth:`restore`; empty without facts."""
        if not self._facts:
            return {}
        text = json.dumps([{**fact.metadata, COUNTS: _counts(ledger, fact)} for fact in self._facts]).encode()
        vectors = self.tensors()
        found = {FACTS: torch.frombuffer(bytearray(text), dtype=torch.uint8)}
        return {**found, VECTOR: torch.stack(vectors)} if vectors else found

    def restore(self, state: Mapping[str, Tensor], ledger: Ledger) -> None:
        """Replace all facts by those of a state; a ValueError if it is no store's.

        Those that the ledger never had, since they were made by another editor, belong to none of its batches; of them
        those that were deleted are left out.
        """
        try:
            metadata = json.loads(bytes(state[FACTS].cpu().numpy())) if state else []
            vectors = state.get(VECTOR, [None] * len(metadata))
            counts = [of.pop(COUNTS) for of in metadata]
            facts = [Fact(**of, vector=vector) for of, vector in zip(metadata, vectors, strict=True)]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not the state of a store of facts ({error})") from error
        entries = ledger.entries
        here = [f.batch < len(entries) and f.id in entries[f.batch].written for f in facts]
        each = zip(facts, here, counts, strict=True)
        self.refill(f if own else replace(f, batch=ELSEWHERE) for f, own, counted in each if own or counted)

    def refill(self, facts: Iterable[Fact]) -> None:
        """Replace all facts."""
        self._facts = list(facts)
        self.changed()


def _counts(ledger: Ledger, fact: Fact) -> bool:
    """Whether a fact was not deleted."""
    return fact.batch == ELSEWHERE or fact.id in ledger.entries[fact.batch].ids

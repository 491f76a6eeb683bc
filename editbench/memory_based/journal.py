"""A method's memory as what its edit batches added, in order: the ledger's batches, one by one, fill it again.

So a run resumes without a second copy of the memory in its checkpoints, a rollback brings back what later edits
replaced, and deletions come back at their place. A memory that was loaded is what the batches after it add to.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from editbench.checks import suggestion

from .editor import MemoryBasedEditor

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.ledger import EditBatch, Ledger, Transaction
    from editbench.model.language_model import LanguageModel
    from editbench.resources import Resources

C = TypeVar("C")
LOADED = "loaded"


@dataclass(frozen=True)
class Entry:
    """What one edit, or several together, added to the memory: tensors, and JSON values."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Loaded:
    """A memory that replaced what there was after so many batches."""

    batches: int
    state: Mapping[str, Tensor]
    deleted: list[str] = field(default_factory=list)  # ids of its edits, which are in no batch

    def tensors(self) -> dict[str, Tensor]:
        """All of it, for a checkpoint."""
        text = json.dumps({"batches": self.batches, "deleted": self.deleted}).encode()
        return {**self.state, LOADED: torch.frombuffer(bytearray(text), dtype=torch.uint8)}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Loaded:
        """The inverse of :meth:`tensors`."""
        state = dict(tensors)
        return cls(state=state, **json.loads(bytes(state.pop(LOADED).cpu().numpy())))


class Journal:
    """Entries by edit batch of the editors of one class: in the ledger if it is on disk, else here."""

    def __init__(self, ledger: Ledger, by: str) -> None:
        self._ledger, self._by = ledger, by
        self._here: dict[int, list[Entry]] = {}  # by the batch's number
        self.loaded: Loaded | None = None

    def add(self, transaction: Transaction, entries: Sequence[Entry]) -> None:
        """Keep entries with the batch of a transaction."""
        for number, entry in enumerate(entries):
            transaction.remember(f"{number:06d}", entry.tensors, entry.metadata)
        if not self._ledger.on_disk:
            transaction.when_kept.append(lambda batch: self._here.update({len(self._ledger): list(entries)}))

    def start(self, keep: int) -> Loaded | None:
        """The memory that the first ``keep`` batches add to; None: an empty one."""
        return self.loaded if self.loaded is not None and self.loaded.batches <= keep else None

    def upto(self, keep: int) -> Iterator[Entry | str]:
        """Entries of the first ``keep`` batches behind :meth:`start`, and ids where they were deleted, in order.

        A ValueError if a batch is in neither place: it was made before the memory was restored from a state.
        """
        start = self.start(keep)
        first, gone = (0, []) if start is None else (start.batches, start.deleted)
        deleted: dict[int, list[str]] = {first: list(gone)}  # by number of batches then
        for batch in filter(lambda batch: batch.of(self._by), self._ledger.entries[:keep]):
            for id, after in batch.forgotten.items():
                deleted.setdefault(after, []).append(id)
        yield from deleted[first]
        for number, batch in enumerate(self._ledger.entries[first:keep], first):
            if batch.of(self._by):
                yield from self._of(number, batch)
            yield from deleted.get(number + 1, ())

    def _of(self, number: int, batch: EditBatch) -> Iterator[Entry]:
        if self._ledger.on_disk:
            for place in batch.memory.values():
                yield Entry(*self._ledger.load_memory(place))
        elif number in self._here:
            yield from self._here[number]
        elif self.loaded is not None and number < self.loaded.batches:
            raise ValueError(
                f"what batch {number} added to the method's memory is not known: it was restored as a whole"
            )

    def cut(self, keep: int) -> None:
        """Remove the entries after the first ``keep`` batches."""
        self._here = {number: entries for number, entries in self._here.items() if number < keep}
        self.loaded = self.start(keep)


class JournalledEditor(MemoryBasedEditor[C]):
    """An editor whose memory is that of its :class:`Journal`, and can be rolled back, resumed, saved and loaded.

    A subclass fills its memory in :meth:`take`, also for new edits, once they are in the ledger.
    """

    deletes = True

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: C, resources: Resources | None = None) -> None:
        """Start with an empty memory."""
        super().__init__(lm, ledger, config, resources)
        self.journal = Journal(ledger, type(self).__name__)
        ledger.before_rollback.append(self._roll_back)

    @property
    @abstractmethod
    def held(self) -> Collection[str]:
        """Ids of the edits that the memory has."""

    @abstractmethod
    def fill(self, state: Mapping[str, Tensor]) -> None:
        """Replace the memory by that of a state; a ValueError if it is another method's."""

    @abstractmethod
    def clear(self) -> None:
        """Empty the memory."""

    @abstractmethod
    def take(self, entry: Entry) -> None:
        """Add to the memory what an entry of the journal says."""

    @abstractmethod
    def drop(self, id: str) -> None:
        """Take one edit out of the memory, if it is still there: a newer one may have replaced it."""

    def keep(self, transaction: Transaction, entries: Sequence[Entry]) -> None:
        """Keep entries with a transaction's batch, and take them into the memory once it is in the ledger."""
        self.journal.add(transaction, entries)

        def take(batch: EditBatch) -> None:
            for entry in entries:
                self.take(entry)

        transaction.when_kept.append(take)

    def delete(self, id: str) -> None:
        """Undo one edit; a ValueError if there is none."""
        edited, loaded = self.ledger.edited_ids, self.journal.loaded
        if id not in edited and id not in self.held:
            raise ValueError(f"there is no edit {id!r}; {suggestion(id, {*edited, *self.held})}")
        self.drop(id)
        if id in edited:
            self.ledger.forget_id(id)
        elif loaded is not None:
            loaded.deleted.append(id)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Replace the memory by that of ``state``, to which later batches add."""
        self.fill(state)
        self.journal.loaded = Loaded(len(self.ledger), {name: tensor.clone() for name, tensor in state.items()})

    def state_beside_ledger(self) -> dict[str, Tensor]:
        """A memory that was loaded, since each batch's part is in the ledger; all of it if the ledger is in memory."""
        if not self.ledger.on_disk:
            return self.state()
        return {} if self.journal.loaded is None else self.journal.loaded.tensors()

    def recall(self, rest: Mapping[str, Tensor]) -> None:
        """Replace the memory by that of the ledger's batches and of ``rest`` (:meth:`state_beside_ledger`)."""
        if rest and not self.ledger.on_disk:
            self.restore(rest)
        else:
            self.journal.loaded = Loaded.of(rest) if rest else None
            self._fill(len(self.ledger))

    def _roll_back(self, keep: int) -> None:
        if keep < len(self.ledger):
            self._fill(keep)
            self.journal.cut(keep)

    def _fill(self, keep: int) -> None:
        entries, start = list(self.journal.upto(keep)), self.journal.start(keep)  # read before anything is changed
        self.clear()
        if start is not None:
            self.fill(start.state)
        for entry in entries:
            self.drop(entry) if isinstance(entry, str) else self.take(entry)

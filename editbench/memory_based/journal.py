"""A method's memory as what its edit batches added, in order: the ledger's batches, one by one, fill it again.

So a run resumes without a second copy of the memory in its checkpoints, a rollback brings back what later edits
replaced, and deletions come back at their place.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from editbench.checks import suggestion
from editbench.files import read_tensors, write_tensors

from .editor import MemoryBasedEditor

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from editbench.ledger import EditBatch, Ledger, Transaction
    from editbench.model.language_model import LanguageModel
    from editbench.resources import Resources

C = TypeVar("C")


@dataclass(frozen=True)
class Entry:
    """What one edit, or several together, added to the memory: tensors, and JSON values."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]


class Journal:
    """Entries by edit batch: in the ledger if it is on disk, else here."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._here: dict[int, list[Entry]] = {}  # by the batch's number

    def add(self, transaction: Transaction, entries: Sequence[Entry]) -> None:
        """Keep entries with the batch of a transaction."""
        for number, entry in enumerate(entries):
            transaction.remember(f"{number:06d}", entry.tensors, entry.metadata)
        if not self._ledger.on_disk:
            transaction.when_kept.append(lambda batch: self._here.update({len(self._ledger): list(entries)}))

    def upto(self, keep: int) -> Iterator[Entry | str]:
        """Entries of the first ``keep`` batches, and ids where they were deleted, in order.

        A ValueError if a batch is in neither place: it was made before the memory was restored from a state.
        """
        deleted: dict[int, list[str]] = {}  # by number of batches then
        for batch in self._ledger.entries[:keep]:
            for id, after in batch.forgotten.items():
                deleted.setdefault(after, []).append(id)
        for number, batch in enumerate(self._ledger.entries[:keep]):
            yield from self._of(number, batch)
            yield from deleted.get(number + 1, ())

    def _of(self, number: int, batch: EditBatch) -> Iterator[Entry]:
        if number in self._here:
            yield from self._here[number]
        elif self._ledger.on_disk:
            for place in batch.memory.values():
                yield Entry(*self._ledger.load_memory(place))
        else:
            raise ValueError(
                f"what batch {number} added to the method's memory is not known: it was restored as a whole"
            )

    def cut(self, keep: int) -> None:
        """Remove the entries after the first ``keep`` batches."""
        self._here = {number: entries for number, entries in self._here.items() if number < keep}


class JournalledEditor(MemoryBasedEditor[C]):
    """An editor whose memory is that of its :class:`Journal`, and can be rolled back, resumed, saved and loaded.

    A subclass fills its memory in :meth:`take`, also for new edits, once they are in the ledger.
    """

    deletes = True

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: C, resources: Resources | None = None) -> None:
        """Start with an empty memory."""
        super().__init__(lm, ledger, config, resources)
        self.journal = Journal(ledger)
        ledger.before_rollback.append(self._roll_back)

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
        if id not in self.ledger.edited_ids:
            raise ValueError(f"there is no edit {id!r}; {suggestion(id, self.ledger.edited_ids)}")
        self.drop(id)
        self.ledger.forget_id(id)

    def state_beside_ledger(self) -> dict[str, Tensor]:
        """Nothing, since each batch's part is in the ledger; the whole memory if the ledger is in memory."""
        return {} if self.ledger.on_disk else self.state()

    def recall(self, rest: Mapping[str, Tensor]) -> None:
        """Replace the memory by that of the ledger's batches, or by ``rest``, which then has all."""
        if rest:
            self.restore(rest)
        else:
            self._fill(len(self.ledger))

    def save(self, path: Path) -> None:
        """Write the memory into a sealed file."""
        write_tensors(path, self.state(), {"method": type(self).__name__, "weight": self.projection.weight})

    def load(self, path: Path) -> None:
        """Replace the memory by that in a file; a ValueError if it is another method's, or of another weight."""
        tensors, metadata = read_tensors(path)
        wanted = {"method": type(self).__name__, "weight": self.projection.weight}
        if metadata != wanted:
            raise ValueError(f"{path} holds the memory of {metadata}; this is {wanted}")
        self.restore(tensors)

    def _roll_back(self, keep: int) -> None:
        if keep < len(self.ledger):
            self._fill(keep)
            self.journal.cut(keep)

    def _fill(self, keep: int) -> None:
        entries = list(self.journal.upto(keep))  # read before anything is changed
        self.clear()
        for entry in entries:
            self.drop(entry) if isinstance(entry, str) else self.take(entry)

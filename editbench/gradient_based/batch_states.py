"""Small states of a method after its edit batches, so that a rollback finds the earlier one, and a resume the last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from editbench.ledger import EditBatch, Ledger, Transaction

NAME = "state"
State = Mapping[str, Tensor]


class BatchStates:
    """The state that a method had after each batch of its own: in the ledger if that is on disk, else here."""

    def __init__(self, by: str = "") -> None:
        """``by`` is the class of the editors whose batches are the method's own."""
        self._by = by
        self._here: list[tuple[int, State]] = []  # batches in the ledger, and the state after them

    def keep(self, ledger: Ledger, transaction: Transaction, state: State) -> None:
        """Keep the state after the batch of a transaction."""
        transaction.remember(NAME, state, {})

        def take(entry: EditBatch) -> None:
            if ledger.on_disk:
                self._here.clear()
            self._here.append((len(ledger) + 1, state))

        transaction.when_kept.append(take)

    def last(self, ledger: Ledger) -> State:
        """The state after the batches that are in the ledger; empty without any.

        A ValueError if it is not known: the batches before a :meth:`restore` have left no states in a ledger in memory.
        """
        while self._here and self._here[-1][0] > len(ledger):
            self._here.pop()
        if self._here:
            return self._here[-1][1]
        own = [(number, entry) for number, entry in enumerate(ledger.entries, 1) if entry.of(self._by)]
        for number, entry in reversed(own) if ledger.on_disk else ():
            if NAME in entry.memory:
                self._here.append((number, ledger.load_memory(entry.memory[NAME])[0]))
                return self._here[-1][1]
        if not ledger.on_disk and any(entry.weights or entry.ids for _, entry in own):
            raise ValueError("edits were rolled back to a batch whose state is not known; restore that saved with it")
        return {}

    def recall(self, ledger: Ledger, rest: State) -> None:
        """Replace all states by those of the ledger, or by ``rest`` if that is not empty."""
        self.restore(ledger, rest)
        self.last(ledger)

    def restore(self, ledger: Ledger, state: State) -> None:
        """Replace all states by that after the batches that are in the ledger; an empty one forgets all."""
        self._here = [(len(ledger), dict(state))] if state else []

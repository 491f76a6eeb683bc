"""Base class of editors that carry a small state from batch to batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from editbench.editor import Editor

from .batch_states import BatchStates

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.ledger import Ledger
    from editbench.model.language_model import LanguageModel
    from editbench.resources import Resources

C = TypeVar("C")


class BatchStateEditor(Editor[C]):
    """An editor whose :meth:`write` keeps its state in :attr:`states`; a rollback needs nothing more.

    Attributes:
        states: The states after the batches in the ledger.
    """

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: C, resources: Resources | None = None) -> None:
        """Start without a state."""
        super().__init__(lm, ledger, config, resources)
        self.states = BatchStates(type(self).__name__)

    @abstractmethod
    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Raise a ValueError for another method's state."""

    def state(self) -> dict[str, Tensor]:
        """The state after the last batch; empty before the first."""
        return dict(self.states.last(self.ledger))

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by a saved one."""
        self.check_state(state)
        self.states.restore(self.ledger, state)

    def state_beside_ledger(self) -> dict[str, Tensor]:
        """Nothing if the ledger is on disk: the state after each batch is there."""
        return {} if self.ledger.on_disk else self.state()

    def recall(self, rest: Mapping[str, Tensor]) -> None:
        """Replace the state by the ledger's, or by ``rest``."""
        self.check_state(rest)
        self.states.recall(self.ledger, rest)

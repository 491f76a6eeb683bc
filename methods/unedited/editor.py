"""The control row of every table: an editor that changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from editbench.editor import Editor, EditResult
from editbench.records import EditRequest

from .config import UneditedConfig

if TYPE_CHECKING:
    from editbench.ledger import Transaction


class Unedited(Editor[UneditedConfig]):
    """Leaves the model as it is. Its reliability is how often the new target was already the answer."""

    title = "unedited"
    kind = "none"
    config_class = UneditedConfig

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Do nothing."""

"""The control row of every table: takes the stream and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.editor import Capabilities, Editor, EditResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editbench.ledger import Transaction
    from editbench.records import EditRequest


@dataclass
class UneditedConfig:
    """No settings."""


class Unedited(Editor[UneditedConfig]):
    """Leaves the model as it is. Its reliability is how often the new target was already the answer."""

    config_class = UneditedConfig
    capabilities = Capabilities(changes="nothing")

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Do nothing."""

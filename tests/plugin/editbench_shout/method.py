"""A method that editbench does not ship. It adds a little noise to one weight, and edits nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from editbench.editor import Editor, EditResult
from editbench.ledger import LowRank, Transaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editbench.records import EditRequest


@dataclass
class ShoutConfig:
    """Settings of Shout.

    Attributes:
        loudness: Standard deviation of the factors of the noise.
    """

    loudness: float = 1e-3


class Shout(Editor[ShoutConfig]):
    """Adds rank-one noise to the last layer's second MLP projection, once a batch."""

    config_class: ClassVar[type] = ShoutConfig
    title: ClassVar[str] = "Shout"

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Write the noise; the same seed and batch give the same noise."""
        name = self.lm.mlp_out_name(self.lm.n_layers - 1)
        d_out, d_in = self.lm.weight(name).shape
        generator = torch.Generator().manual_seed(self.resources.seed)
        left, right = (self.config.loudness * torch.randn(n, 1, generator=generator) for n in (d_out, d_in))
        transaction.apply(LowRank(name, left, right))
        result.details["loudness"] = self.config.loudness

"""Hidden-state shift: hidden states of facts that no edit touches, before the first edit and after the last one.

The state is the output of the last edited layer at the subject's last token, where edits are written: NSE's and
AlphaEdit's figures on the shift of representations. States are kept in a file of the run's folder; the report draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from editbench.evaluation.drift import mean_change
from editbench.evaluation.metrics import describe
from editbench.files import write_tensors
from editbench.model.hooks import hooked
from editbench.results.schema import HIDDEN_SHIFT_FILE

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.model.likelihood import Answering

VERSION = 1
"""Changes with the states that are compared."""
ROWS_TOGETHER = 16

FACTS = {
    "hidden_shift": describe(
        "hidden-state shift",
        version=VERSION,
        higher_is_better=False,
        source="editbench: mean of ‖h − h₀‖ / ‖h₀‖ at the last edited layer and subject token of facts not edited",
    )
}


class Fact(Protocol):
    """A tokenised prompt about a subject."""

    @property
    def ids(self) -> Sequence[int]:
        """Token ids."""

    @property
    def subject(self) -> int:
        """Index of the subject's last token."""


class HiddenShift:
    """The states of one run's facts."""

    def __init__(self, lm: LanguageModel, facts: Sequence[Fact], layer: int) -> None:
        """Take the states of the model, which must be unedited."""
        self._lm, self._facts, self.layer = lm, list(facts), layer
        self.before = self.states()

    @torch.no_grad()
    def states(self, editor: Answering | None = None) -> Tensor:
        """States (N, d) of the model as it is, float64, on the CPU."""
        found = []
        for start in range(0, len(self._facts), ROWS_TOGETHER):
            rows = self._facts[start : start + ROWS_TOGETHER]
            longest = max(len(row.ids) for row in rows)
            ids = torch.tensor([[*row.ids, *[self._lm.pad_id] * (longest - len(row.ids))] for row in rows])
            lengths = torch.tensor([len(row.ids) for row in rows])
            mask = (torch.arange(longest) < lengths[:, None]).long()
            seen: list[Tensor] = []
            positions = torch.arange(longest).expand(len(rows), -1)
            place = [tensor.to(self._lm.device) for tensor in (ids, mask, positions)]
            answering = editor.answering((lengths - 1).tolist()) if editor is not None else nullcontext()
            with answering, hooked(self._lm.layers[self.layer], seen.append):
                self._lm.hidden(*place)
            columns = torch.tensor([row.subject for row in rows])
            found.append(seen[0][torch.arange(len(rows)), columns].cpu().double())
        return torch.cat(found)

    def measure(self, editor: Answering, folder: Path | None = None) -> float:
        """The shift by the edits so far; in ``folder`` the states before and now replace those of an earlier call."""
        now = self.states(editor)
        if folder is not None:
            states = {"before": self.before.float(), "after": now.float()}
            write_tensors(folder / HIDDEN_SHIFT_FILE, states, {"layer": self.layer})
        return mean_change(now, self.before)

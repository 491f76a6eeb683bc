"""A batch of edits as padded token rows, with the tokens whose likelihood is trained.

Shapes: B edits, T columns, M trained tokens of all edits together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from editbench.locate_then_edit.prompts import target_ids
from editbench.model.batching import PaddedBatch
from editbench.model.hooks import hooked
from editbench.model.partial_forward import run_layers

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.model.language_model import LanguageModel
    from editbench.records import EditRequest

TARGET, PROMPT_LAST, TEXT = "target", "prompt_last", "text"
OBJECTIVES = (TARGET, PROMPT_LAST, TEXT)
"""Trained tokens: the target's, each behind the ones before it; the target's, all at the prompt's last token; those of
prompt and target."""


class TrainingRows:
    """Rows of a batch of edits, run from a layer on that is trained.

    Attributes:
        ids: Ids of the edits, in order.
        at: (M, 2) row and column whose output predicts each trained token.
        edit_of: (M,) edit of each trained token.
    """

    def __init__(
        self,
        lm: LanguageModel,
        batch: Sequence[EditRequest],
        *,
        first: int = 0,
        objective: str = TARGET,
        train_eos: bool = False,
    ) -> None:
        """Run the layers before ``first``, whose weights must not change while these rows are in use."""
        self.lm, self.first, self.ids = lm, first, [request.id for request in batch]
        rows, at, tokens = [], [], []
        for i, request in enumerate(batch):
            prompt, target = lm.encode(request.prompt).ids, target_ids(lm, request, train_eos)
            last = len(prompt) - 1
            rows.append(prompt if objective == PROMPT_LAST else prompt + target[:-1])
            if objective == TEXT:
                at += [(i, j) for j in range(last)]
                tokens += prompt[1:]
            at += [(i, last if objective == PROMPT_LAST else last + j) for j in range(len(target))]
            tokens += target
        self.columns = PaddedBatch.pad(rows, [0] * len(rows), lm.pad_id, lm.device)
        self.at, self._tokens = torch.tensor(at, device=lm.device), torch.tensor(tokens, device=lm.device)
        self.edit_of = self.at[:, 0]
        counts = self.edit_of.bincount(minlength=len(batch))
        self._weights = 1.0 / (counts[self.edit_of] * len(batch))
        self._entering = self._before() if first else None

    @torch.no_grad()
    def _before(self) -> Tensor:
        """(B, T, d) input of the first layer that is run: does not depend on what is trained."""
        entering: list[Tensor] = []
        with hooked(self.lm.layers[self.first], lambda t: entering.append(t.clone()), inputs=True):
            run_layers(self.lm, self.columns, last=self.first)
        return entering[0]

    def log_p(self) -> Tensor:
        """(M, V) log-probabilities where each trained token is predicted, float32 or wider."""
        final = run_layers(self.lm, self.columns, first=self.first, hidden=self._entering)
        at = self.at.to(final.device)
        return self.lm.logits(final[at[:, 0], at[:, 1]]).log_softmax(-1)

    def nll(self) -> Tensor:
        """(M,) negative log-likelihood of each trained token, nats, float32 or wider."""
        log_p = self.log_p()
        return -log_p.gather(1, self._tokens.to(log_p.device)[:, None])[:, 0]

    def loss(self) -> Tensor:
        """Mean over edits of the mean NLL per trained token."""
        nll = self.nll()
        return (nll * self._weights.to(nll)).sum()

    def by_edit(self, nll: Tensor) -> list[float]:
        """Mean NLL of each edit's trained tokens."""
        edit = self.edit_of.to(nll.device)
        sums = nll.detach().new_zeros(len(self.ids)).index_add(0, edit, nll.detach())
        means: list[float] = (sums / edit.bincount(minlength=len(self.ids)).to(sums)).tolist()
        return means

"""Rows of the edits that one block is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from editbench.locate_then_edit.prompts import target_ids
from editbench.memory_based.target_rows import TargetRows
from editbench.model.batching import PaddedBatch, select
from editbench.model.hooks import hooked

if TYPE_CHECKING:
    from editbench.memory_based.projection import Projection
    from editbench.model.language_model import LanguageModel
    from editbench.records import EditRequest


class Rows(Protocol):
    """What MELO trains on.

    Attributes:
        keys: (B, d_out) of the edits.
        labels: Token ids of their answers.
    """

    keys: Tensor
    labels: list[tuple[int, ...]]

    def loss(self, changed: Sequence[AbstractContextManager[None]], highest: int) -> Tensor:
        """The loss within the contexts ``changed``, of which ``highest`` is the highest layer."""


END = "<|endoftext|>"
"""Behind each published row, whatever the model: to a tokenizer that does not know it, so many ordinary pieces."""


class EditRows:
    """Keys at the prompts' last tokens; the loss is the mean over edits. What is below the lowest block runs once."""

    def __init__(
        self, lm: LanguageModel, at: Projection, lowest: Projection, requests: Sequence[EditRequest], train_eos: bool
    ) -> None:
        """Run the base model up to the ``lowest`` projection with a block; keys are of the projection ``at`` below."""
        rows = [(lm.encode(request.prompt).ids, target_ids(lm, request, train_eos)) for request in requests]
        seen: list[Tensor] = []
        with hooked(at.module, seen.append, inputs=True):
            self._data = TargetRows(lm, lowest, rows)
        with torch.no_grad():
            self.keys = at.outputs(select(self._data.tree.flat(seen[0]), self._data.ends))
        self.labels = [tuple(answer) for _, answer in rows]

    def loss(self, changed: Sequence[AbstractContextManager[None]], highest: int) -> Tensor:
        """:meth:`Rows.loss`."""
        return self._data.nll(*changed, highest=highest)[0].mean()


def published_row(lm: LanguageModel, request: EditRequest) -> list[int]:
    """Tokens of prompt, answer and :data:`END`."""
    return lm.encode(f"{request.prompt} {request.target.strip()} {END}").ids


class PublishedRows:
    """Prompt, answer and end token, padded on the right; keys at the last column, behind the answer or in padding.

    The loss is the mean over all answer tokens of the batch, a blank before the end token among them where there is
    one. The whole model runs at every step.
    """

    def __init__(self, lm: LanguageModel, at: Projection, requests: Sequence[EditRequest], train_eos: bool) -> None:
        rows = [published_row(lm, request) for request in requests]
        prompts = [len(lm.encode(request.prompt).ids) for request in requests]
        self._lm = lm
        batch = PaddedBatch.pad(rows, [0] * len(rows), lm.pad_id, lm.device)
        columns = torch.arange(batch.ids.shape[1], device=lm.device)
        self._ids, self._mask, self._positions = batch.ids, batch.mask, columns.expand_as(batch.ids)
        own = columns >= torch.tensor(prompts, device=lm.device)[:, None]
        self._labelled = own & (batch.ids != lm.pad_id)
        self.labels = [tuple(row[kept].tolist()) for row, kept in zip(batch.ids, self._labelled, strict=True)]
        seen: list[Tensor] = []
        with torch.no_grad(), hooked(at.module, seen.append):
            lm.hidden(self._ids, self._mask, self._positions)
        self.keys = seen[0].reshape(*batch.ids.shape, -1)[:, -1]

    def loss(self, changed: Sequence[AbstractContextManager[None]], highest: int) -> Tensor:
        """:meth:`Rows.loss`."""
        with ExitStack() as stack:
            for context in changed:
                stack.enter_context(context)
            final = self._lm.hidden(self._ids, self._mask, self._positions)
        log_p = self._lm.logits(final[:, :-1]).log_softmax(-1)
        nll = -log_p.gather(-1, self._ids[:, 1:, None].to(log_p.device))[..., 0]
        return nll[self._labelled[:, 1:].to(nll.device)].mean()

"""Rows of one edit: the prompt in contexts with its answer, and an irrelevant prompt last.

Shapes: n rows with the answer, P tokens of all n + 1 rows together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from editbench.memory_based.target_rows import TargetRows, base_pass
from editbench.model.batching import PaddedBatch
from editbench.model.hooks import hooked
from editbench.model.token_tree import TokenTree

if TYPE_CHECKING:
    from editbench.memory_based.projection import Projection
    from editbench.model.language_model import LanguageModel

Row = tuple[Sequence[int], Sequence[int]]


class Rows(Protocol):
    """Rows that WISE trains on.

    Attributes:
        inputs: (P, d_in) input of the projection.
        row_of: (P,) row of each token.
        counted: (P,) bool: tokens whose scores count.
    """

    inputs: Tensor
    row_of: Tensor
    counted: Tensor

    def loss(self, added: Tensor) -> Tensor:
        """Mean over the rows of the answer's NLL, with ``added`` (P, d_out) added to the projection's outputs."""


class EditRows:
    """Each row at its true positions; its prompt's tokens count. Layers below the projection's run once.

    Layers above it run for the rows with the answer alone: the irrelevant prompt's scores need none.
    """

    def __init__(self, lm: LanguageModel, at: Projection, rows: Sequence[Row], irrelevant: Sequence[int]) -> None:
        self._data = TargetRows(lm, at, rows)
        paths, ends = self._data.tree.paths, self._data.ends.tolist()
        other = base_pass(lm, at, TokenTree.of(lm, [irrelevant], share=False))[1]
        self.inputs = torch.cat([self._data.inputs, other])
        device = self.inputs.device
        row_of = [i for i, path in enumerate(paths) for _ in path]
        counted = [token <= end for path, end in zip(paths, ends, strict=True) for token in path]
        self.row_of = torch.tensor([*row_of, *[len(paths)] * len(other)], device=device)
        self.counted = torch.tensor([*counted, *[True] * len(other)], device=device)

    def loss(self, added: Tensor) -> Tensor:
        """:meth:`Rows.loss`."""
        tree, own = self._data.tree, len(self._data.inputs)

        def put(output: Tensor) -> Tensor:
            return output + tree.laid_out(added[:own].to(output.dtype)).reshape(output.shape)

        return self._data.nll(hooked(self._data.projection.module, put))[0].mean()


class PublishedRows:
    """One batch, padded on the left and without positions of its own, as the published code runs it.

    All columns count, padding included. Labels are the columns from the longest prompt's length on: prompt tokens, too,
    where the irrelevant prompt is the longest row. The NLL is divided by one token too many. The whole model runs.
    """

    def __init__(self, lm: LanguageModel, at: Projection, rows: Sequence[Row], irrelevant: Sequence[int]) -> None:
        whole = [[*prompt, *answer] for prompt, answer in rows] + [list(irrelevant)]
        width = max(map(len, whole))
        self._lm, self._at, self._n = lm, at, len(rows)
        batch = PaddedBatch.pad(whole, [len(row) for row in whole], lm.pad_id, lm.device)
        self._ids, self._mask = batch.ids[:, :width], batch.mask[:, :width]
        self._positions = torch.arange(width, device=lm.device).expand_as(self._ids)
        longest = max(len(prompt) for prompt, _ in rows)
        behind = torch.arange(width, device=lm.device) >= longest
        self._labelled = (behind & (self._mask == 1))[: self._n]
        seen: list[Tensor] = []
        with torch.no_grad(), hooked(at.module, seen.append, inputs=True):
            self._run()
        self.inputs = seen[0].reshape(-1, at.d_in)
        self.row_of = torch.arange(len(whole), device=lm.device).repeat_interleave(width)
        self.counted = torch.ones_like(self.row_of, dtype=torch.bool)

    def _run(self) -> Tensor:
        return self._lm.hidden(self._ids, self._mask, self._positions)

    def loss(self, added: Tensor) -> Tensor:
        """:meth:`Rows.loss`, with the published divisor."""
        with hooked(self._at.module, lambda output: output + added.to(output.dtype).reshape(output.shape)):
            final = self._run()[: self._n, :-1]
        log_p = self._lm.logits(final).log_softmax(-1)
        gold = self._ids[: self._n, 1:].to(log_p.device)
        nll = -log_p.gather(-1, gold[..., None])[..., 0]
        labelled = self._labelled[:, 1:].to(nll)
        return ((nll * labelled).sum(1) / (labelled.sum(1) + 1)).mean()

"""Rows from their subject's last token on, ready to be run again and again with a shift there.

What lies left of the subject and below the edited layer does not depend on the shift, and is computed once: beginnings
that rows share first (for all of them together), then the rest up to the subject, then the columns from the subject on
up to the edited layer. Rows are padded so that their subjects share a column, so that what is left of it is an ordinary
key-value cache.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

import torch

from editbench.model.batching import PaddedBatch, partition
from editbench.model.hooks import hooked, mlp_only_at
from editbench.model.partial_forward import run
from editbench.model.prefix_cache import PrefixCache, SharedPrefixes, place, recording_cache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editbench.locate_then_edit.prompts import Row
    from editbench.model.language_model import LanguageModel


AT_MLP = "mlp"
"""ROME: the shift is added to the MLP's output."""

AT_LAYER = "layer"
"""MEMIT, NSE: the shift is added to the decoder layer's output; where that goes through a norm behind the MLP, to the
MLP's output, since a write reaches no further. Either way the value is what then leaves the layer."""


class ShiftedForward:
    """A batch of rows of one edited layer.

    Attributes:
        keys: (B, d_ff) what enters the edited layer's second projection at the subject.
        init: (B, d) what the shift is added to.
        leaving: (B, d) what leaves the edited layer.
        norm_input: (B, d) what enters the norm behind the MLP; None where there is none.
    """

    @torch.no_grad()
    def __init__(self, lm: LanguageModel, rows: Sequence[Row], layer: int, at: str) -> None:
        """Compute all that does not depend on the shift, on the current weights.

        Args:
            lm: The model.
            rows: Rows whose subject position is known; columns up to their last token are run.
            layer: Edited layer.
            at: :data:`AT_MLP` or :data:`AT_LAYER`.
        """
        self.lm, self.layer = lm, layer
        norm = lm.post_norm(layer)
        self._columns = PaddedBatch.pad([r.ids for r in rows], [r.subject for r in rows], lm.pad_id, lm.device)
        self._start = max(row.subject for row in rows)  # the subjects' column
        prefix = _left_of_subjects(lm, rows)
        seen: dict[str, Tensor] = {}

        def keep(name: str, tensor: Tensor) -> None:
            seen[name] = tensor.reshape(len(rows), -1, tensor.shape[-1]).clone()

        with ExitStack() as stack:
            stack.enter_context(hooked(lm.layers[layer], lambda t: keep("entering", t), inputs=True))
            stack.enter_context(hooked(lm.layers[layer], lambda t: keep("leaving", t)))
            stack.enter_context(hooked(lm.mlp_out(layer), lambda t: keep("keys", t), inputs=True))
            stack.enter_context(hooked(lm.mlp_out(layer), lambda t: keep("mlp", t)))
            if norm is not None:
                stack.enter_context(hooked(norm.module, lambda t: keep("norm", t), inputs=True))
            run(lm, self._columns, last=layer, cache=prefix, start=self._start)
        self.keys, mlp, self.leaving = (seen[name][:, 0] for name in ("keys", "mlp", "leaving"))
        self.init = mlp if at == AT_MLP or norm is not None else self.leaving
        self.norm_input = seen["norm"][:, 0] if norm is not None else None
        self._entering = seen["entering"][:, :1]  # (B, 1, d), of the edited layer
        self._hidden = seen["leaving"]  # (B, T, d), of the edited layer, without a shift
        self._prefix = prefix.above(layer) if prefix else None
        self._adds = norm is None  # a shift of the MLP's output is the same shift of the layer's
        if self._prefix and self._adds:
            self._prefix = self._prefix.above(layer + 1)

    def final(self, shift: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Final hidden states, with ``shift`` (B, d) added at the subjects.

        Args:
            shift: (B, d).
            rows: (P,) rows that are read.
            columns: (P,) where, counted from the subject's.

        Returns:
            (P, d).
        """
        leaving = self._hidden[:, :1] + shift[:, None].to(self._hidden) if self._adds else self._edited(shift)
        hidden = torch.cat([leaving, self._hidden[:, 1:]], dim=1)
        lm, first = self.lm, self.layer + 1
        with mlp_only_at(lm, lm.n_layers - 1, len(hidden), rows, columns) if first < lm.n_layers else nullcontext():
            final = run(lm, self._columns, first=first, hidden=hidden, cache=self._prefix, start=self._start)
        return final[rows.to(final.device), columns.to(final.device)]

    def narrow(self, rows: Tensor, width: int) -> None:
        """Go on with some of the rows (in the order of ``rows``), and ``width`` columns from the subject on."""
        self._columns = self._columns.rows(rows).upto(self._start + width)
        self._prefix = self._prefix.rows(rows) if self._prefix else None
        rows = rows.to(self._hidden.device)
        self._entering, self._hidden = self._entering[rows], self._hidden[rows, :width]

    def _edited(self, shift: Tensor) -> Tensor:
        """What leaves the edited layer at the subject (B, 1, d), the MLP's output shifted: by the model's own code."""
        leaving: list[Tensor] = []
        lm = self.lm
        columns = self._columns.upto(self._start + 1)
        with (
            hooked(lm.mlp_out(self.layer), lambda out: out + shift.reshape(out.shape).to(out)),
            hooked(lm.layers[self.layer], leaving.append),
        ):
            run(
                lm,
                columns,
                first=self.layer,
                last=self.layer,
                hidden=self._entering,
                cache=self._prefix,
                start=self._start,
            )
        return leaving[0]


def _left_of_subjects(lm: LanguageModel, rows: Sequence[Row]) -> PrefixCache | None:
    """Keys and values of all layers for what is left of the subjects, ending in one column; None if nothing is."""
    start = max(row.subject for row in rows)
    if start == 0:
        return None
    heads = SharedPrefixes.of([row.ids[: row.subject] for row in rows])
    shared, last = recording_cache(lm), lm.n_layers - 1
    nowhere = torch.zeros(0, dtype=torch.long)  # of the last layer, keys and values are enough
    if heads.tokens:
        with mlp_only_at(lm, last, len(heads.tokens), nowhere, nowhere):
            run(lm, heads.columns(lm.pad_id, lm.device), cache=shared)
    own = [row.subject - length for row, length in zip(rows, heads.shared, strict=True)]  # tokens not in any head
    parts = partition(own, lm.device)
    found = []
    for part in parts:
        subjects = [rows[i].subject for i in part]
        end, width = max(subjects), max(own[i] for i in part)  # columns left of the subjects', and those to be run
        prefix = None
        if width < end:
            taken = [max(0, subject - width) for subject in subjects]
            head = torch.tensor([heads.head[i] for i in part])
            prefix = PrefixCache.gather(shared, head, place(taken, end - width, lm.device))
        if width:
            columns = PaddedBatch.pad([rows[i].ids[: rows[i].subject] for i in part], subjects, lm.pad_id, lm.device)
            cache = recording_cache(lm, prefix)
            with mlp_only_at(lm, last, len(part), nowhere, nowhere):
                run(lm, columns, cache=cache, start=end - width)
            prefix = PrefixCache.of(cache)
        assert prefix is not None
        found.append(prefix)
    return PrefixCache.join(found, parts, start)

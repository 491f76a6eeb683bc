"""Shifted forward passes: rows from the subject's last token on, run again and again with a shift added there.

Columns left of the subject and layers below the edited one do not depend on the shift and are computed once: prefixes
that rows share, then the rest up to the subject, then the columns from the subject on up to the edited layer. Rows are
padded so that their subjects share a column, left of which there is an ordinary key-value cache.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from editbench.model.batching import ByRow, PaddedBatch, partition
from editbench.model.hooks import hooked, mlp_only_at
from editbench.model.partial_forward import run_layers
from editbench.model.prefix_cache import PrefixCache, SharedPrefixes, prefix_columns, recording_cache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editbench.locate_then_edit.prompts import Row
    from editbench.model.language_model import LanguageModel


AT_MLP = "mlp"
"""ROME: the shift is added to the MLP's output."""

AT_LAYER = "layer"
"""MEMIT, NSE: the shift is added to the decoder layer's output, whose value is found; with a norm behind the MLP it is
added to the MLP's output, the only one that a write can change."""


@dataclass(frozen=True)
class ShiftedForward(ByRow):
    """A batch of rows whose edited layer is ``layer``, computed without a shift."""

    shared: ClassVar[frozenset[str]] = frozenset({"lm", "layer", "start"})

    lm: LanguageModel
    layer: int
    start: int  # column of the subjects' last tokens, "the subject" below
    batch: PaddedBatch
    keys: Tensor  # (B, d_ff) input of the layer's second projection at the subject
    init: Tensor  # (B, d) the vector that the shift is added to
    norm_input: Tensor | None  # (B, d) input of the norm behind the MLP, if there is one
    entering: Tensor  # (B, 1, d) input of the layer at the subject
    hidden: Tensor  # (B, T, d) output of the layer from the subject on
    prefix: PrefixCache | None  # keys and values left of the subject, of the layers that a shifted pass runs

    @classmethod
    @torch.no_grad()
    def of(cls, lm: LanguageModel, rows: Sequence[Row], layer: int, at: str) -> ShiftedForward:
        """Compute all that does not depend on the shift, on the current weights; ``at`` is AT_MLP or AT_LAYER."""
        norm = lm.post_norm(layer)
        start = max(row.subject for row in rows)
        batch = PaddedBatch.pad([r.ids for r in rows], [r.subject for r in rows], lm.pad_id, lm.device)
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
            run_layers(lm, batch, last=layer, cache=prefix, start=start)
        return cls(
            lm=lm,
            layer=layer,
            start=start,
            batch=batch,
            keys=seen["keys"][:, 0],
            init=seen["mlp" if at == AT_MLP or norm is not None else "leaving"][:, 0],
            norm_input=seen["norm"][:, 0] if norm is not None else None,
            entering=seen["entering"][:, :1],
            hidden=seen["leaving"],
            prefix=prefix.above(layer + 1 if norm is None else layer) if prefix else None,
        )

    def final(self, shift: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Final hidden states (P, d), with ``shift`` added at the subjects.

        Args:
            shift: (B, d).
            rows: (P,) rows that are read.
            columns: (P,) their columns, counted from the subject's.
        """
        plain = self.norm_input is None  # the layer adds the MLP's output unchanged
        leaving = self.hidden[:, :1] + shift[:, None].to(self.hidden) if plain else self._edited(shift)
        hidden = torch.cat([leaving, self.hidden[:, 1:]], dim=1)
        lm, first = self.lm, self.layer + 1
        with mlp_only_at(lm, lm.n_layers - 1, len(hidden), rows, columns) if first < lm.n_layers else nullcontext():
            final = run_layers(lm, self.batch, first=first, hidden=hidden, cache=self.prefix, start=self.start)
        return final[rows.to(final.device), columns.to(final.device)]

    def upto(self, width: int) -> ShiftedForward:
        """This with ``width`` columns from the subject on."""
        return replace(self, batch=self.batch.upto(self.start + width), hidden=self.hidden[:, :width])

    def _edited(self, shift: Tensor) -> Tensor:
        """Output of the edited layer at the subject (B, 1, d), with the MLP's output shifted."""
        leaving: list[Tensor] = []
        at, start = self.layer, self.start
        batch = self.batch.upto(start + 1)
        with (
            hooked(self.lm.mlp_out(at), lambda out: out + shift.reshape(out.shape).to(out)),
            hooked(self.lm.layers[at], leaving.append),
        ):
            run_layers(self.lm, batch, first=at, last=at, hidden=self.entering, cache=self.prefix, start=start)
        return leaving[0]


def _left_of_subjects(lm: LanguageModel, rows: Sequence[Row]) -> PrefixCache | None:
    """Keys and values of all layers left of the subjects, which share a column; None if all rows begin there."""
    start = max(row.subject for row in rows)
    if start == 0:
        return None
    shared = SharedPrefixes.of([row.ids[: row.subject] for row in rows])
    recorded, last = recording_cache(lm), lm.n_layers - 1
    nowhere = torch.zeros(0, dtype=torch.long)  # the last layer's MLP need not run
    if shared.tokens:
        with mlp_only_at(lm, last, len(shared.tokens), nowhere, nowhere):
            run_layers(lm, shared.batch(lm.pad_id, lm.device), cache=recorded)
    own = [row.subject - length for row, length in zip(rows, shared.lengths, strict=True)]  # tokens in no prefix
    parts = partition(own, lm.device)
    found = []
    for part in parts:
        subjects = [rows[i].subject for i in part]
        end, width = max(subjects), max(own[i] for i in part)  # columns left of the subjects', and those to be run
        prefix = None
        if width < end:
            columns = prefix_columns([max(0, subject - width) for subject in subjects], end - width, lm.device)
            prefix = PrefixCache.gather(recorded, torch.tensor([shared.index[i] for i in part]), columns)
        if width:
            batch = PaddedBatch.pad([rows[i].ids[: rows[i].subject] for i in part], subjects, lm.pad_id, lm.device)
            cache = recording_cache(lm, prefix)
            with mlp_only_at(lm, last, len(part), nowhere, nowhere):
                run_layers(lm, batch, cache=cache, start=end - width)
            prefix = PrefixCache.of(cache)
        assert prefix is not None
        found.append(prefix)
    return PrefixCache.join(found, parts, start)

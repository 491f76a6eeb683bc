"""Rows from their subject's last token on, ready to be run again and again with a shift there.

What lies left of the subject and below the edited layer does not depend on the shift, and is computed once: beginnings
that rows share first (for all of them together), then the rest up to the subject, then the columns from the subject on
up to the edited layer. Rows are padded so that their subjects share a column, so that what is left of it is an ordinary
key-value cache.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch

from editbench.locate.heads import Heads, place
from editbench.locate.partial import Columns, Prefix, recording_cache, run, watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editbench.host import Host
    from editbench.locate.rows import Row

AT_MLP = "mlp"
"""ROME: the shift is added to the MLP's output."""
AT_LAYER = "layer"
"""MEMIT, NSE: the shift is added to the decoder layer's output."""


class Suffixes:
    """A batch of rows of one edited layer.

    Attributes:
        keys: (B, d_ff) what enters the edited layer's second projection at the subject.
        mlp: (B, d) what leaves it.
        leaving: (B, d) what leaves the edited layer.
    """

    @torch.no_grad()
    def __init__(self, host: Host, rows: Sequence[Row], layer: int, at: str) -> None:
        """Compute all that does not depend on the shift, on the current weights.

        Args:
            host: The model.
            rows: Rows whose subject position is known; columns up to their last token are run.
            layer: Edited layer.
            at: :data:`AT_MLP` or :data:`AT_LAYER`.
        """
        self.host, self.layer, self.at = host, layer, at
        self._columns = Columns.pad([r.ids for r in rows], [r.subject for r in rows], host.pad_id, host.device)
        self._start = max(row.subject for row in rows)  # the subjects' column
        cache = _left_of_subjects(host, rows, self._columns)
        seen: dict[str, Tensor] = {}

        def keep(name: str, tensor: Tensor) -> None:
            seen[name] = tensor.reshape(len(rows), -1, tensor.shape[-1]).clone()

        with ExitStack() as stack:
            stack.enter_context(watch(host.layers[layer], lambda t: keep("entering", t), inputs=True))
            stack.enter_context(watch(host.layers[layer], lambda t: keep("leaving", t)))
            stack.enter_context(watch(host.mlp_out(layer), lambda t: keep("keys", t), inputs=True))
            stack.enter_context(watch(host.mlp_out(layer), lambda t: keep("mlp", t)))
            run(host, self._columns, last=layer, cache=Prefix.of(cache, 0) if cache else None, start=self._start)
        self.keys, self.mlp, self.leaving = (seen[name][:, 0] for name in ("keys", "mlp", "leaving"))
        self._entering = seen["entering"][:, :1]  # (B, 1, d), of the edited layer
        self._hidden = seen["leaving"]  # (B, T, d), of the edited layer, without a shift
        self._prefix = Prefix.of(cache, layer if at == AT_MLP else layer + 1) if cache else None

    def final(self, shift: Tensor) -> Tensor:
        """Final hidden states (B, T, d), from the subject's column on, with ``shift`` (B, d) added there."""
        leaving = self._hidden[:, :1] + shift[:, None].to(self._hidden) if self.at == AT_LAYER else self._edited(shift)
        hidden = torch.cat([leaving, self._hidden[:, 1:]], dim=1)
        return run(
            self.host, self._columns, first=self.layer + 1, hidden=hidden, cache=self._prefix, start=self._start
        )

    def narrow(self, rows: Tensor, width: int) -> None:
        """Go on with some of the rows (in the order of the index ``rows``), and ``width`` columns from the subject on."""
        self._columns = self._columns.rows(rows).upto(self._start + width)
        self._prefix = self._prefix.rows(rows) if self._prefix else None
        rows = rows.to(self._hidden.device)
        self._entering, self._hidden = self._entering[rows], self._hidden[rows, :width]

    def _edited(self, shift: Tensor) -> Tensor:
        """What leaves the edited layer at the subject (B, 1, d), with the MLP's output shifted.

        Whatever the layer does with its MLP's output (add it, or normalise it first), it is the model's own code.
        """
        host, leaving = self.host, []
        columns = self._columns.upto(self._start + 1)
        with (
            watch(host.mlp_out(self.layer), lambda out: out + shift.reshape(out.shape).to(out)),
            watch(host.layers[self.layer], leaving.append),
        ):
            run(
                host,
                columns,
                first=self.layer,
                last=self.layer,
                hidden=self._entering,
                cache=self._prefix,
                start=self._start,
            )
        return leaving[0]


def _left_of_subjects(host: Host, rows: Sequence[Row], columns: Columns) -> Prefix | None:
    """Keys and values of all layers for the columns left of the subjects'; None if there are none."""
    start = max(row.subject for row in rows)
    if start == 0:
        return None
    heads = Heads.of([row.ids[: row.subject] for row in rows])
    own = max(row.subject - shared for row, shared in zip(rows, heads.shared, strict=True))  # columns not in any head
    prefix = None
    if own < start:
        cache = recording_cache(host)
        run(host, heads.columns(host.pad_id, host.device), cache=cache)
        taken = [max(0, row.subject - own) for row in rows]
        prefix = Prefix.gather(cache, torch.tensor(heads.head), place(taken, start - own, host.device))
    if own == 0:
        return prefix
    cache = recording_cache(host, prefix)
    run(host, columns.upto(start), cache=cache, start=start - own)
    return Prefix.of(cache, 0)

"""Token trees: rows of tokens whose common beginnings run once, without padding.

The tokens of all rows lie side by side, as one row of P tokens: linear layers and norms see (1, P, d). Attention alone
is computed row by row (:mod:`editbench.model.tree_attention`). Models whose attention cannot be replaced run the same
tree as padded rows; callers see tensors by token (P, ·) in both cases.

Shapes: P tokens, R rows with a token of their own, L tokens of the longest, C columns of the prefixes before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from editbench.model.batching import PaddedBatch

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.model.prefix_cache import PrefixCache


@dataclass(frozen=True)
class TokenTree:
    """Tokens of rows, each with what is left of it.

    Attributes:
        ids: (P,) int64.
        positions: (P,) int64, in the token's row.
        paths: For every given row the indices of its tokens, from its ``start`` on.
        prefix: Keys and values of the R rows' tokens left of ``starts``, which end in one column; None without any.
        starts: (R,) position of the first token of each row with a token of its own.
        begins: (R,) where its own tokens begin, counted from there; all before belong to an earlier row.
        own: (R, Q) its own tokens, the last one again in the places of shorter rows.
        along: (R, L) all its tokens, likewise.
        shared: Whether a token may belong to several rows.
        by_rows: Run as padded rows.
    """

    ids: Tensor
    positions: Tensor
    paths: list[list[int]]
    prefix: PrefixCache | None
    starts: Tensor
    begins: Tensor
    own: Tensor
    along: Tensor
    shared: bool
    by_rows: bool

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        rows: Sequence[Sequence[int]],
        *,
        starts: Sequence[int] | None = None,
        prefix: PrefixCache | None = None,
        share: bool = True,
    ) -> TokenTree:
        """The tree of ``rows`` of token ids, none empty behind its start.

        Args:
            starts: Position of the first token that belongs to the tree; None for all tokens.
            prefix: Keys and values of the tokens before ``starts``, by row; ``share`` must be false.
            share: Run common beginnings once.
        """
        assert prefix is None or not share
        known: dict[tuple[int, int], int] = {}
        ids: list[int] = []
        positions: list[int] = []
        paths: list[list[int]] = []
        begins: list[int] = []
        for i, row in enumerate(rows):
            start, before, parent = starts[i] if starts is not None else 0, len(ids), -1
            path: list[int] = []
            for position in range(start, len(row)):
                token = row[position]
                parent = known.setdefault((parent, token), len(ids)) if share else len(ids)
                if parent == len(ids):
                    ids.append(token)
                    positions.append(position)
                path.append(parent)
            paths.append(path)
            begins.append(next((at for at, index in enumerate(path) if index >= before), len(path)))
        owners = [i for i, path in enumerate(paths) if begins[i] < len(path)]
        along = _padded([paths[i] for i in owners])
        own = _padded([paths[i][begins[i] :] for i in owners])
        tensors = (
            ids,
            positions,
            [starts[i] if starts is not None else 0 for i in owners],
            [begins[i] for i in owners],
        )
        ids_, positions_, starts_, begins_ = (torch.tensor(t, dtype=torch.long, device=lm.device) for t in tensors)
        return cls(
            ids_,
            positions_,
            paths,
            prefix,
            starts_,
            begins_,
            own.to(lm.device),
            along.to(lm.device),
            share,
            not lm.runs_trees,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def last(self) -> Tensor:
        """Index of every given row's last token."""
        return torch.tensor([path[-1] for path in self.paths], device=self.ids.device)

    @cached_property
    def places(self) -> Tensor:
        """(P,) each token's place in ``own``, flattened."""
        return _first_places(self.own, len(self))

    @cached_property
    def places_along(self) -> Tensor:
        """(P,) each token's first place in ``along``, flattened."""
        return _first_places(self.along, len(self))

    @cached_property
    def inverse(self) -> Tensor:
        """(R · Q,) the token in each place of ``own``, P in padding."""
        where = torch.full((self.own.numel(),), len(self), device=self.own.device)
        where[self.places] = torch.arange(len(self), device=self.own.device)
        return where

    def flat(self, tensor: Tensor) -> Tensor:
        """What a module gave or got, by token (P, ·)."""
        width = tensor.shape[-1]
        whole = tensor.reshape(-1, width)
        return whole[self.places_along.to(whole.device)] if self.by_rows else whole

    def laid_out(self, tensor: Tensor) -> Tensor:
        """A tensor by token (P, ·) as modules take it: (1, P, ·), or (R, L, ·) in padded rows."""
        return tensor[self.along.to(tensor.device)] if self.by_rows else tensor[None]

    def visible(self, window: int | None) -> Tensor:
        """(R, 1, Q, C + L) bool: what each own token sees, itself and tokens left of it, ``window`` of them at most."""
        columns = self.prefix.length if self.prefix is not None else 0
        device = self.ids.device
        key = self.starts[:, None] - columns + torch.arange(columns + self.along.shape[1], device=device)  # (R, C + L)
        query = self.positions[self.own]  # (R, Q)
        back = query[:, :, None] - key[:, None, :]
        sees = (back >= 0) & (key[:, None, :] >= 0)
        return (sees & (back < window) if window is not None else sees)[:, None]

    def padded(self, pad_id: int) -> PaddedBatch:
        """The rows as a padded batch, with columns for the prefixes."""
        columns = self.prefix.length if self.prefix is not None else 0
        rows, device = len(self.along), self.ids.device
        before = torch.arange(-columns, 0, device=device) + self.starts[:, None] >= 0  # (R, C)
        length = self.begins + (self.inverse.reshape(self.own.shape) < len(self)).sum(1)
        mask = torch.cat([before, torch.arange(self.along.shape[1], device=device) < length[:, None]], dim=1).long()
        left = torch.full((rows, columns), pad_id, device=device)
        ids = torch.cat([left, self.ids[self.along]], dim=1)
        positions = torch.cat([torch.zeros_like(left), self.positions[self.along]], dim=1)
        return PaddedBatch(ids, mask, positions)


def _padded(paths: Sequence[Sequence[int]]) -> Tensor:
    """Paths of equal length: the last token again behind shorter ones."""
    width = max(map(len, paths), default=0)
    rows = [[*path, *[path[-1]] * (width - len(path))] for path in paths]
    return torch.tensor(rows, dtype=torch.long).reshape(len(paths), width)


def _first_places(index: Tensor, count: int) -> Tensor:
    """(count,) the first place of each number in ``index``, flattened."""
    numbers, places = np.unique(index.flatten().cpu().numpy(), return_index=True)
    assert len(numbers) == count
    return torch.from_numpy(places).to(index.device)

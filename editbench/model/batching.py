"""Batches of token rows: padding, keeping some of the rows, and grouping rows so that padding costs least."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
R = TypeVar("R", bound="ByRow")


def select(value: Any, rows: Tensor) -> Any:
    """The entries of some rows, in the order of ``rows``: (n,) indices, or (B,) bool for tensors alone.

    A value is a tensor or list with one entry a row, a dictionary of such values, None, or an object with ``select``.
    """
    if value is None:
        return None
    if isinstance(value, torch.Tensor):
        return value[rows.to(value.device)]
    if isinstance(value, dict):
        return {key: select(part, rows) for key, part in value.items()}
    if isinstance(value, list):
        return [value[i] for i in rows.tolist()]
    return value.select(rows)


class ByRow:
    """Base of dataclasses whose fields hold one entry a row, except those named in ``shared``."""

    shared: ClassVar[frozenset[str]] = frozenset()

    def select(self: R, rows: Tensor) -> R:
        """This for some of the rows (:func:`select`)."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in self.shared}  # type: ignore[arg-type]
        return replace(self, **select(values, rows))  # type: ignore[type-var]


@dataclass(frozen=True)
class PaddedBatch(ByRow):
    """A batch of token rows, padded on one side or both; all tensors (B, T) int64."""

    ids: Tensor
    mask: Tensor  # 1 at tokens
    positions: Tensor  # from each row's first token; padding behind it has the last token's

    @classmethod
    def pad(cls, rows: Sequence[Sequence[int]], align: Sequence[int], pad_id: int, device: torch.device) -> PaddedBatch:
        """Pad ``rows`` so that token ``align[i]`` of every row i stands in the same column, ``max(align)``."""
        left = max(align)
        width = left + max(len(row) - at for row, at in zip(rows, align, strict=True))
        ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, (row, at) in enumerate(zip(rows, align, strict=True)):
            ids[i, left - at : left - at + len(row)] = torch.tensor(row, dtype=torch.long)
            mask[i, left - at : left - at + len(row)] = 1
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        return cls(ids.to(device), mask.to(device), positions.to(device))

    def upto(self, width: int) -> PaddedBatch:
        """The first ``width`` columns."""
        return PaddedBatch(self.ids[:, :width], self.mask[:, :width], self.positions[:, :width])


GROUP_TOKENS = {"cpu": 24, "cuda": 1024}
"""Cost of running one more group of rows (launching its kernels), in tokens."""


def partition(lengths: Sequence[int], device: torch.device, most: int | None = None) -> list[list[int]]:
    """Indices of groups of rows of similar length, short rows first, with the least Σ (rows · longest) + groups' cost.

    Args:
        lengths: Columns that each row needs.
        most: Larger groups are cut to this many tokens; None leaves them whole.
    """
    overhead = GROUP_TOKENS.get(device.type, GROUP_TOKENS["cuda"])
    kinds = sorted(set(lengths))
    count = [lengths.count(kind) for kind in kinds]
    best: list[tuple[int, int]] = [(0, 0)]  # for the first k kinds: cost, and where their last group starts
    for k in range(1, len(kinds) + 1):
        best.append(min((best[j][0] + sum(count[j:k]) * kinds[k - 1] + overhead, j) for j in range(k)))
    groups, k = [], len(kinds)
    while k:
        j = best[k][1]
        group = [i for i, length in enumerate(lengths) if kinds[j] <= length <= kinds[k - 1]]
        rows = len(group) if most is None else max(1, most // max(1, kinds[k - 1]))
        groups += [group[i : i + rows] for i in range(0, len(group), rows)][::-1]
        k = j
    return groups[::-1]


def batches(
    rows: Iterable[T],
    tokens_per_batch: int,
    *,
    width: Callable[[T], int] = attrgetter("width"),
    longest_first: bool = True,
) -> Iterator[list[T]]:
    """Batches of rows of similar width (in tokens); a row beyond the budget is a batch of its own.

    Args:
        tokens_per_batch: The budget of a batch, padding included.
        longest_first: A batch that is too large for the memory then fails at once.
    """
    batch: list[T] = []
    for row in sorted(rows, key=width, reverse=longest_first):
        if batch and (len(batch) + 1) * max(width(batch[0]), width(row)) > tokens_per_batch:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch

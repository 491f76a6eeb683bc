"""Running mean and spread of the edited modules' inputs and gradients, over all edits (UltraEdit, RLEdit, MEND)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

EPSILON = torch.finfo(torch.float32).eps
COUNT, MEAN, SQUARES = "count", "mean", "squares"


class Normaliser:
    """Running statistics of rows x (r, m).

    Attributes:
        count: Rows so far.
        mean: (m,)
        squares: (m,) sum of squared deviations from the mean.
    """

    def __init__(self, count: int, mean: Tensor, squares: Tensor) -> None:
        self.count, self.mean, self.squares = count, mean, squares

    @classmethod
    def empty(cls, like: Tensor) -> Normaliser:
        """No rows yet; ``like`` (…, m) has width, dtype and device."""
        zeros = like.new_zeros(like.shape[-1])
        return cls(0, zeros, zeros.clone())

    def add(self, x: Tensor, published: bool) -> None:
        """Add rows (r, m). ``published`` counts their own deviations r / (r - 1) times: NaN for one row."""
        rows, own = len(x), x.mean(0)
        moved, total = own - self.mean, self.count + rows
        deviations = (x - own).square().sum(0)
        if published:
            deviations = deviations * rows / (rows - 1) if rows > 1 else deviations * float("nan")
        self.squares = self.squares + deviations + moved.square() * (self.count * rows / total)
        self.mean = self.mean + moved * (rows / total)
        self.count = total

    @property
    def spread(self) -> Tensor:
        """(m,) standard deviation, unbiased."""
        return (self.squares / (self.count - 1 + EPSILON)).sqrt()

    def normalise(self, x: Tensor) -> Tensor:
        """Rows (r, m) less the mean, over the spread."""
        return (x - self.mean) / (self.spread + EPSILON)

    def copy(self) -> Normaliser:
        """One that further rows do not change."""
        return Normaliser(self.count, self.mean, self.squares)  # tensors are replaced, never written into

    def tensors(self) -> dict[str, Tensor]:
        """All numbers by name."""
        count = torch.tensor(self.count, device=self.mean.device)
        return {COUNT: count, MEAN: self.mean, SQUARES: self.squares}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], like: Tensor) -> Normaliser:
        """The inverse of :meth:`tensors`, on the device and in the dtype of ``like``."""
        return cls(int(tensors[COUNT]), tensors[MEAN].to(like), tensors[SQUARES].to(like))


Statistics = dict[str, Normaliser]
"""By name: running statistics of rows [h, g] (r, d_in + d_out)."""


def add_rows(statistics: Statistics, name: str, pair: tuple[Tensor, Tensor], published: bool) -> None:
    """Add the rows of a module, its inputs and gradients, to the statistics of this name."""
    x = torch.cat(pair, dim=1)
    normaliser = statistics.setdefault(name, Normaliser.empty(x))
    normaliser.add(x.to(normaliser.mean.device), published)


def normalised(normaliser: Normaliser | None, pair: tuple[Tensor, Tensor]) -> Tensor:
    """Rows [h, g] less the mean, over the spread, on their own device; as they are if there are no statistics."""
    x = torch.cat(pair, dim=1)
    return x if normaliser is None else normaliser.normalise(x.to(normaliser.mean.device)).to(x.device)


def to_tensors(statistics: Mapping[str, Normaliser]) -> dict[str, Tensor]:
    """All numbers of the statistics, by their name and part."""
    return {f"{key}/{name}": t for key, one in statistics.items() for name, t in one.tensors().items()}


def from_tensors(tensors: Mapping[str, Tensor], like: Tensor, method: str) -> Statistics:
    """The inverse of :func:`to_tensors`, on the device and in the dtype of ``like``; a ValueError for others."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, part = key.rpartition("/")
        parts.setdefault(name, {})[part] = tensor
    try:
        return {name: Normaliser.of(found, like) for name, found in parts.items()}
    except KeyError as error:
        raise ValueError(f"these are no statistics of {method} ({error} is missing): {sorted(tensors)}") from error

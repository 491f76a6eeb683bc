"""A matrix that grows row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FIRST_ROWS = 64  # rows for which memory is taken first
MOVE_ROWS = 1 << 10  # rows moved at once behind a deleted one


class GrowingRows:
    """A matrix (n, d) that grows row by row: its memory doubles when it is full."""

    def __init__(self, like: Tensor) -> None:
        """Start empty; ``like`` (0, d) has the dtype and the device."""
        self._memory, self._count = like, 0

    @property
    def filled(self) -> Tensor:
        """(n, d) view of the rows, until the next one is added or deleted."""
        return self._memory[: self._count]

    def append(self, row: Tensor) -> None:
        """Add a row (d,)."""
        if self._count == len(self._memory):
            larger = self._memory.new_empty((max(FIRST_ROWS, 2 * self._count), self._memory.shape[1]))
            larger[: self._count] = self._memory
            self._memory = larger
        self._memory[self._count] = row
        self._count += 1

    def insert(self, at: int, row: Tensor) -> None:
        """Add a row (d,) before a place; those from there on move down."""
        self.append(row)
        if at < self._count - 1:
            self._memory[at + 1 : self._count] = self._memory[at : self._count - 1].clone()
            self._memory[at] = row

    def delete(self, at: int) -> None:
        """Delete a row; those behind it move up, in parts, since source and target overlap."""
        for start in range(at + 1, self._count, MOVE_ROWS):
            part = self._memory[start : min(start + MOVE_ROWS, self._count)].clone()
            self._memory[start - 1 : start - 1 + len(part)] = part
        self._count -= 1

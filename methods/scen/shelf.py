"""Where experts lie: on the layer's device, in host memory, on disk; what was used least recently moves down."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from .files import Expert, Folder
    from .stores import Packed


class Tier:
    """Experts in one kind of memory, least recently used first."""

    def __init__(self, device: torch.device | str, limit: int | None) -> None:
        """Start empty.

        Args:
            device: Where its tensors are.
            limit: Bytes that may stay; None for any number.
        """
        self.device = device
        self.limit = limit
        self.nbytes = 0
        self.experts: OrderedDict[str, Packed] = OrderedDict()

    def add(self, id: str, packed: Packed) -> None:
        """Take an expert in, as the most recently used."""
        self.pop(id)
        self.experts[id] = packed.to(self.device)
        self.nbytes += packed.nbytes

    def pop(self, id: str) -> Packed | None:
        """Give an expert up, if it is here."""
        packed = self.experts.pop(id, None)
        self.nbytes -= packed.nbytes if packed is not None else 0
        return packed

    def overflow(self) -> list[tuple[str, Packed]]:
        """Give up the least recently used experts until the rest is within the limit."""
        out = []
        while self.limit is not None and self.nbytes > self.limit:
            id = next(iter(self.experts))
            packed = self.pop(id)
            assert packed is not None
            out.append((id, packed))
        return out


class Shelf:
    """Experts by edit id. With a folder each is also on disk from the moment it comes."""

    def __init__(
        self, device: torch.device, device_bytes: int | None, host_bytes: int | None, folder: Folder | None
    ) -> None:
        """Start empty, whatever is in the folder.

        Args:
            device: The layer's device.
            device_bytes: Bound of what stays on it.
            host_bytes: Bound of what stays in host memory; needs a folder.
            folder: Holds the rest.
        """
        assert host_bytes is None or folder is not None
        self.device = Tier(device, device_bytes)
        self.host = Tier("cpu", host_bytes)
        self.folder = folder

    def put(self, expert: Expert) -> None:
        """Take a new expert in."""
        if self.folder is not None:
            self.folder.write(expert)
        self.adopt(expert)

    def adopt(self, expert: Expert) -> None:
        """Take in an expert that the folder, if there is one, already holds."""
        self._settle(expert.id, expert.packed)

    def fetch(self, id: str) -> Packed:
        """The expert on the layer's device, and the most recently used from now on.

        Raises:
            DamagedExpert: It is on disk only, and its file is damaged.
        """
        packed = self.peek(id).to(self.device.device)
        self.host.pop(id)
        self._settle(id, packed)
        return packed

    def peek(self, id: str) -> Packed:
        """The expert wherever it lies, which it does not leave.

        Raises:
            DamagedExpert: It is on disk only, and its file is damaged.
        """
        for tier in (self.device, self.host):
            if id in tier.experts:
                return tier.experts[id]
        assert self.folder is not None
        return self.folder.read(id).packed

    def remove(self, id: str) -> None:
        """Forget an expert, its file too."""
        self.device.pop(id)
        self.host.pop(id)
        if self.folder is not None:
            self.folder.remove(id)

    def _settle(self, id: str, packed: Packed) -> None:
        moving = [(id, packed)]
        for tier in (self.device, self.host):
            for name, expert in moving:
                tier.add(name, expert)
            moving = tier.overflow()  # out of host memory: on disk only

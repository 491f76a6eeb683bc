"""What a method's tensors take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from editbench.editor import Footprint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor


def footprint_of(tensors: Iterable[Tensor]) -> Footprint:
    """Bytes of ``tensors``, on accelerators and in host memory."""
    device = host = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if tensor.device.type == "cpu":
            host += size
        else:
            device += size
    return Footprint(device=device, host=host)

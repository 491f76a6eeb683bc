"""Bytes of live tensors on a CPU: what an accelerator's allocator would count, whatever Python and malloc keep."""

from __future__ import annotations

from typing import Any

import torch


class LiveBytes:
    """Most bytes of tensors that were made within the block and alive at once, temporaries of operations included.

    The profiler's own events of memory are summed in their order; they are tens of bytes an operation, so that the
    block should be short.

    Attributes:
        peak: Above those at the block's begin.
        last: At its end.
        operations: Operations of torch that were called, those within others included.
    """

    peak = last = operations = 0

    def __enter__(self) -> LiveBytes:
        self._profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
        self._profile.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._profile.__exit__(*error)
        events = self._profile.profiler.kineto_results.events()  # type: ignore[union-attr]
        changes = sorted((one.start_ns(), one.nbytes()) for one in events if one.name() == "[memory]")
        self.operations = sum(one.name().startswith("aten::") for one in events)
        for _, change in changes:
            self.last += change
            self.peak = max(self.peak, self.last)

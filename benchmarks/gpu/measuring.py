"""Seconds and memory of a call, of the parts of one, and of every tenth of a long stream."""

import time
from collections import defaultdict

import torch

GIB = 2**30


def on_gpu():
    """Whether memory and time are a GPU's."""
    return torch.cuda.is_available()


def synchronise():
    """Wait for the GPU, if there is one."""
    if on_gpu():
        torch.cuda.synchronize()


def allocated():
    """GiB of tensors on the GPU now; None without one."""
    return torch.cuda.memory_allocated() / GIB if on_gpu() else None


def timed(call):
    """Seconds, peak GiB on the GPU (None without one), result."""
    synchronise()
    if on_gpu():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    result = call()
    synchronise()
    return time.perf_counter() - begun, torch.cuda.max_memory_allocated() / GIB if on_gpu() else None, result


class Stopwatch:
    """Adds up the wall time of the functions that it is put around: (owner, name, label) each."""

    def __init__(self, watched):
        self.seconds, self._undo = defaultdict(float), []
        for owner, name, label in watched:
            self._around(owner, name, label)

    def _around(self, owner, name, label):
        original = getattr(owner, name)

        def timed(*args, **kwargs):
            synchronise()
            begun = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                synchronise()
                self.seconds[label] += time.perf_counter() - begun

        setattr(owner, name, timed)
        self._undo.append((owner, name, original))

    def remove(self):
        """Take the watch off."""
        for owner, name, original in self._undo:
            setattr(owner, name, original)


def tenths(seconds):
    """Sums of ten parts of a list, as equal as can be; fewer for a shorter list."""
    count = min(10, len(seconds))
    edges = [len(seconds) * i // count for i in range(count + 1)] if count else []
    return [sum(seconds[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]

"""Costs of a run: wall seconds and peak memory of its stages.

A thing is kept in the cache with the seconds that it took. They count also where it is read, so that a run's seconds do
not depend on the cache; ``cached`` names what was read.
"""

from __future__ import annotations

import gc
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

PREPARE, EDIT, EVALUATION = "prepare", "edit", "evaluation"
"""Stages of a run: work once for a stream; work for each edit, also if done before the first; scoring."""
COVARIANCE, NULL_SPACE, VALUES, UNEDITED_ANSWERS = "covariance", "null space", "values", "unedited answers"
NETWORK, TEXTS, VERDICTS = "trained network", "sampled texts", "verdicts"
STAGE_OF = {
    **dict.fromkeys((TEXTS, COVARIANCE, NULL_SPACE, NETWORK), PREPARE),
    VALUES: EDIT,
    **dict.fromkeys((UNEDITED_ANSWERS, VERDICTS), EVALUATION),
}
"""Stage to which the seconds of each kind of cached thing belong."""
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class CachedCosts:
    """Seconds of things in the cache by kind, added to where they are computed or read."""

    def __init__(self) -> None:
        self.computed: dict[str, float] = defaultdict(float)
        self.read: dict[str, float] = defaultdict(float)
        self.digests: dict[str, str] = {}  # of cached files used since the chain's last line, by name; it seals them
        self.covariance_tokens: int | None = None  # tokens of text that the covariance in use was taken over

    def missing(self, kind: str, name: str) -> None:
        """Called before a thing that the cache lacks is computed, by its kind and a name that is its own."""

    def note(self, kind: str, seconds: float, *, read: bool) -> None:
        """Add the seconds that a thing of this kind took to compute: now, or before if it was read."""
        (self.read if read else self.computed)[kind] += seconds


class Meter:
    """Measures wall seconds and peak bytes of the stages of one run; a stage waits for accelerators at both its ends.

    Peaks are by stage, and by "run" since the start: of the process ("rss"), of all GPUs together ("cuda").
    """

    def __init__(self) -> None:
        self.costs = CachedCosts()
        self.seconds: dict[str, float] = dict.fromkeys((PREPARE, EDIT, EVALUATION), 0.0)
        self.peaks: dict[str, dict[str, int]] = {}
        self.cached: set[str] = set()  # kinds of things that were read from a cache
        gc.collect()  # memory of an earlier run in this process
        self._memory = _PeakMemory()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block as part of a stage, also if it raises."""
        self._note_peaks()
        synchronise()
        began = time.perf_counter()
        try:
            yield
        finally:
            with suppress(RuntimeError):  # the device has failed: another error is on its way
                synchronise()
            self.seconds[name] += time.perf_counter() - began
            self._note_peaks(name)
            self._settle(name)

    def _settle(self, stage: str) -> None:
        """Move the seconds of computed things to their own stages, and add those of things that were read."""
        for kind, seconds in self.costs.computed.items():
            self.seconds[stage] -= seconds
            self.seconds[STAGE_OF[kind]] += seconds
        for kind, seconds in self.costs.read.items():
            self.seconds[STAGE_OF[kind]] += seconds
        self.cached |= set(self.costs.read)
        self.costs.computed.clear()
        self.costs.read.clear()

    def _note_peaks(self, *stages: str) -> None:
        self._raise_peaks(dict.fromkeys(("run", *stages), self._memory.take()))

    def _raise_peaks(self, peaks: Mapping[str, Mapping[str, int]]) -> None:
        for stage, peak in peaks.items():
            before = self.peaks.setdefault(stage, {})
            before.update({kind: max(value, before.get(kind, 0)) for kind, value in peak.items()})

    def peak_bytes(self) -> dict[str, int]:
        """Peaks so far as far as measured: "peak_rss_bytes" of the run, "peak_cuda_edit_bytes" of a stage, …"""
        self._note_peaks()
        return {
            f"peak_{kind}_{'' if stage == 'run' else f'{stage}_'}bytes": value
            for stage, kinds in self.peaks.items()
            for kind, value in kinds.items()
        }

    def report(self) -> dict[str, Any]:
        """Seconds, peaks and cached kinds as in run.json under "costs"."""
        seconds = {f"{stage}_seconds": value for stage, value in self.seconds.items()}
        tokens = self.costs.covariance_tokens
        counted = {} if tokens is None else {"covariance_tokens": tokens}
        return {**seconds, **self.peak_bytes(), **counted, "cached": sorted(self.cached)}

    def state(self) -> dict[str, Any]:
        """Enough for :meth:`restore`, as JSON types."""
        self._note_peaks()
        tokens = self.costs.covariance_tokens
        return {
            "seconds": self.seconds,
            "peaks": self.peaks,
            "cached": sorted(self.cached),
            "covariance_tokens": tokens,
        }

    def restore(self, state: Mapping[str, Any], *, add: tuple[str, ...] = ()) -> None:
        """Add to the measurements of an earlier process: peaks, and the seconds of the stages ``add``."""
        own, peaks = self.seconds, self.peaks
        self.seconds = {name: seconds + (own[name] if name in add else 0) for name, seconds in state["seconds"].items()}
        self.peaks = {name: dict(kinds) for name, kinds in state["peaks"].items()}
        self._raise_peaks(peaks)
        self.cached = {*state["cached"], *(kind for kind in self.cached if STAGE_OF[kind] in add)}
        if self.costs.covariance_tokens is None:  # a method may need its covariance before the first edit alone
            self.costs.covariance_tokens = state.get("covariance_tokens")


class _PeakMemory:
    """Peak bytes since the last :meth:`take`: where the system cannot reset them, only if they have risen since."""

    def __init__(self) -> None:
        self._mark = 0
        self.take()
        self._mark = _process_peak()

    def take(self) -> dict[str, int]:
        """Peak bytes by "rss" and "cuda"; resets them."""
        found, peak = {}, _process_peak()
        if _reset_process_peak():
            found["rss"] = peak
        elif peak > self._mark:
            found["rss"] = self._mark = peak
        if _cuda_in_use():
            devices = range(torch.cuda.device_count())
            found["cuda"] = sum(int(torch.cuda.max_memory_allocated(device)) for device in devices)
            for device in devices:
                torch.cuda.reset_peak_memory_stats(device)
        return found


def _cuda_in_use() -> bool:
    return torch.cuda.is_available() and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _process_peak() -> int:
    """Peak resident bytes of this process, since the last reset where there is one; 0 if unknown."""
    with suppress(OSError):
        if found := re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE):
            return int(found[1]) * 1024
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _reset_process_peak() -> bool:
    """Reset the peak to the memory in use; False where the system cannot."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def synchronise() -> None:
    """Wait for what the accelerators have to do."""
    if _cuda_in_use():
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()

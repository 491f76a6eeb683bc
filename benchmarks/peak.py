"""The most memory that a piece of work takes."""

import gc
from pathlib import Path


class Peak:
    """Highest resident memory above the start's, from the kernel's own mark (Linux); None elsewhere."""

    megabytes = None

    def __enter__(self):
        gc.collect()
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self._start = _kilobytes("VmRSS")
        except OSError:
            self._start = None
        return self

    def __exit__(self, *_):
        if self._start is not None:
            self.megabytes = round((_kilobytes("VmHWM") - self._start) / 1024)


def resident_megabytes():
    """Resident memory now (Linux)."""
    gc.collect()
    return round(_kilobytes("VmRSS") / 1024)


def _kilobytes(name):
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

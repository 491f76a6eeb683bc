"""Threads of torch's operations: a fixed rule from the model's size, within the cores that a job may use.

Another number of threads sums in another order, and last bits differ. A run therefore keeps its number in run.json, and
whatever repeats or continues it uses that again; as with the make of the processor, runs are compared across numbers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_CPUS = Path("/sys/devices/system/cpu")

PARAMETERS_A_THREAD = 1 << 25
"""Parameters of the model for each thread. The operations of a smaller model are too short to be shared: threads then
wait for each other, on a busy machine most of the time."""


def threads_for(parameters: int, cores: int) -> int:
    """The rule: threads for a model with so many parameters, between 1 and ``cores``."""
    return max(1, min(cores, parameters // PARAMETERS_A_THREAD))


def usable_cores() -> int:
    """Physical cores that this process may run on."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return len({_core(cpu) for cpu in allowed})


def job_cores(launcher: str, settings: Mapping[str, Any], jobs: int) -> int:
    """Cores of each of ``jobs`` jobs of a sweep on one of Hydra's launchers, given with its settings.

    Slurm and Ray give a job what the settings ask for; jobs that run side by side on this machine share its cores.
    """
    cores, asked = usable_cores(), settings.get("cpus_per_task")
    if launcher == "joblib":
        workers = int(settings["n_jobs"])
        return max(1, cores // min(jobs, workers if workers > 0 else max(1, cores + 1 + workers)))
    if launcher == "ray":
        asked = settings["ray"]["remote"].get("num_cpus")
    elif launcher == "submitit_local":
        cores = max(1, cores // jobs)  # all start at once
    return max(1, min(cores, int(asked or cores)))


def set_threads(model: Any, cores: int | None = None, setting: int | None = None, stored: int | None = None) -> int:
    """Set the threads of torch's operations, and return their number.

    The number ``stored`` in a run precedes the user's ``setting``, which precedes the rule. ``cores`` are those of the
    job, None for all; ``OMP_NUM_THREADS`` bounds them.
    """
    import torch

    have = usable_cores()
    if stored is not None:
        if setting not in (None, stored):
            remedy = "results.rerun=true begins it anew with threads=%d"
            _log.warning(f"the run goes on with the %d threads that it began with; {remedy}", stored, setting)
        if stored > have:
            _log.warning("the run began with %d threads and goes on with as many on %d cores: slow", stored, have)
    bound = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    cores = min(cores or have, int(bound) if bound.isdecimal() and int(bound) else have)
    number = stored or setting or threads_for(sum(p.numel() for p in model.parameters()), cores)
    torch.set_num_threads(number)
    return number


@contextmanager
def restored_threads() -> Iterator[None]:
    """Give the threads of torch's operations their number again after the block."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _core(cpu: int) -> str:
    """Name of the physical core of a logical processor; where the system does not tell, each has its own."""
    with suppress(OSError):
        return (_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    return str(cpu)

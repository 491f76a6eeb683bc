"""``editbench plan``: what runs would take on this machine, from their configs, measured rates and the cache."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from editbench import compose, single_run
from editbench.config import ResultsConfig, RunConfig
from editbench.console import quiet_libraries
from editbench.estimate import LOADED, Estimate, Planner
from editbench.foresight import own_part
from editbench.json_lines import encode
from editbench.rates import learn, quickest
from editbench.results.tables import console
from editbench.visible_text import visible

RUNS = "plan-runs"  # folder of the short runs of --measure, in the cache
EPILOG = """examples:
  editbench plan method=rome model=pocket stream.edits=200
  editbench plan -m method=rome,memit stream.seed=0,1,2 --measure
"""


def limits(results: Path) -> dict[str, int]:
    """Bytes that this machine has free: of host memory, of the first GPU's memory, of the results' disk."""
    import torch

    found = {"host": int(psutil.virtual_memory().available), "disk": shutil.disk_usage(results).free}
    if torch.cuda.is_available():
        found["device"] = int(torch.cuda.mem_get_info()[0])
    return found


def breaks_first(estimates: Sequence[Estimate], free: Mapping[str, int]) -> str:
    """A sentence on what runs out first: the largest share of what is free."""
    todo = [one for one in estimates if not one.done]
    shares = []
    for one in todo:
        host = max(one.host or 0, one.weights)
        shares.append((host / free["host"], f"host memory, {_size(host)} of {_size(free['host'])} in job {one.number}"))
        if "device" in free:
            device = max(one.device or 0, one.weights)
            share = device / free["device"]
            shares.append((share, f"GPU memory, {_size(device)} of {_size(free['device'])} in job {one.number}"))
    disk = sum(one.disk for one in todo)
    shares.append((disk / free["disk"], f"disk, {_size(disk)} of {_size(free['disk'])}"))
    share, what = max(shares)
    return f"{'too little' if share > 1 else 'first to run out'}: {what}"


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def main(arguments: Sequence[str]) -> int:
    """Show the plan. Returns the exit status: 0 it can be done, 1 something is too little, 2 wrong use."""
    options, overrides = _parser().parse_known_args(list(arguments))
    quiet_libraries()
    try:
        command = compose.check(overrides)
        if not options.multirun and not command.sweep:
            command.only  # noqa: B018 - several values need -m
        configs = [compose.parse(compose.compose_node([*job, *command.hydra])) for job in command.jobs]
        cache, results = configs[0].cache, Path(configs[0].results.dir)
        look = {"always": True, "never": False, "small": None}[options.look]

        def planner() -> Planner:
            return Planner(learn([results, cache / RUNS], cache), command.launcher, look, options.on == "gpu")

        planner().shape(configs[0].model)
        begin = quickest(cache, "start of the program", time.time() - psutil.Process().create_time())
        if options.measure:
            _measure(planner(), configs)
        estimates = _estimates(planner(), configs, command.jobs)
    except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        return 2
    first = breaks_first(estimates, limits(results))
    if options.json:
        for one in estimates:
            print(encode({**asdict(one), "start_seconds": begin}))
    else:
        _show(estimates, begin or 0.0, first)
    return 1 if first.startswith("too little") else 0


def _estimates(planner: Planner, configs: Sequence[RunConfig], jobs: Sequence[Sequence[str]]) -> list[Estimate]:
    """An estimate of each job; a ValueError names the first job that cannot work."""
    found = []
    for number, (config, job) in enumerate(zip(configs, jobs, strict=True), start=1):
        try:
            found.append(planner.estimate(number, config))
        except (ValueError, OSError) as error:
            which = f"job {number} ({' '.join(own_part(job, jobs))}): " if len(jobs) > 1 else ""
            raise ValueError(f"{which}{error}") from error
    return found


def _parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="editbench plan",
        usage="editbench plan [-m] [--measure] [--look small|always|never] [--on here|gpu] [--json] KEY=VALUE ...",
        description="What runs would take: seconds, memory and disk of each job, what it finds in the cache, what runs "
        "out first.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("-m", "--multirun", action="store_true", help="a sweep")
    found.add_argument("--measure", action="store_true", help="first make short runs of what was not measured")
    found.add_argument(
        "--look",
        choices=("small", "always", "never"),
        default="small",
        help=f"load a model to look into the cache: one that lies here, of up to {_size(LOADED)} (default); any; none",
    )
    found.add_argument("--on", choices=("here", "gpu"), default="here", help="gpu: as on one, also without one here")
    found.add_argument("--json", action="store_true", help="one line of JSON a job, and nothing else")
    return found


def _measure(planner: Planner, configs: Sequence[RunConfig]) -> None:
    """Make short runs of each config whose rate is not known; the longest stands for those that differ in length."""
    seen = set()
    for config in sorted(configs, key=lambda config: -len(planner.stream(config))):
        length = len(planner.stream(config))
        plain = dataclasses.replace(config.stream, edits=None, evaluate_at=(), stop_when=())
        whole = dataclasses.replace(config.dataset, limit=None)
        key = str(dataclasses.replace(config, stream=plain, dataset=whole, results=ResultsConfig()))
        if key in seen or not planner.unmeasured(config):
            continue
        seen.add(key)
        for edits in measured_edits(config.stream.batch_size, length):
            print(f"measuring {', '.join(map(str, config.names))}: {edits} edits", file=sys.stderr)
            points = config.stream.evaluate_at if edits == length else ()  # then it is scored as the run itself is
            short = dataclasses.replace(plain, edits=edits, evaluate_at=points)
            place = ResultsConfig(dir=str(config.cache / RUNS), continue_from="never")
            single_run.run(dataclasses.replace(config, stream=short, results=place))


def measured_edits(batch_size: int, length: int) -> list[int]:
    """Numbers of edits of the short runs of ``--measure``: whole batches, and no more than the stream's ``length``."""
    wanted = (2, 10) if batch_size == 1 else (batch_size, 2 * batch_size)
    return sorted({min(edits, length) for edits in wanted})


def _show(estimates: Sequence[Estimate], begin: float, first: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("job", "run", "edits", "seconds", "weights", "host memory", "GPU memory", "disk", "cache")
    for one in estimates:
        seconds = "done" if one.done else None if one.seconds is None else f"{one.seconds:.0f}"
        about = "" if one.measured else "~"
        memory = [None if size is None else about + _size(size) for size in (one.host, one.device)]
        disk = ("" if one.weighed else "~") + _size(one.disk)
        cache = one.cache or (f"~{_size(one.cached)}" if one.cached else None)
        texts = [str(one.number), one.names, str(one.edits), seconds, _size(one.weights), *memory, disk, cache]
        table.add_row(*(Text(visible("—" if text is None else text)) for text in texts))
    console().print(table)
    for one in estimates:
        if one.judge:
            print(f"job {one.number}: {one.judge}")
    known = [one.seconds for one in estimates if one.seconds is not None]
    unknown = len(estimates) - len(known)  # done ones take 0 s
    missing = f"; of {unknown} no rate was measured here (--measure makes short runs)" if unknown else ""
    done = sum(one.done for one in estimates)
    print(
        f"{len(estimates)} jobs, {done} of them done: {sum(known) + begin:.0f} s in all, "
        f"{begin:.0f} s of them before the first job{missing}"
    )
    if not all((one.measured and one.weighed) or one.done for one in estimates):
        print("~ from the model's config, the method and the stream: too few runs of these settings were measured")
    print(first)

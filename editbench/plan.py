"""``editbench plan``: what runs would take, from their configs and from rates that were measured on this machine.

Seconds of each stage are fitted to finished runs of the same config with other numbers of edits: a constant, and a
rate for each edit or scored record. Without two such runs of different size there is no time. Weights are counted on
the device "meta": no model is loaded.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from editbench import compose, provenance
from editbench.config import ModelConfig, ResultsConfig, RunConfig
from editbench.console import quiet_libraries
from editbench.costs import EVALUATION
from editbench.evaluation.judge.verdicts import judge_line
from editbench.foresight import Foresight
from editbench.json_lines import encode
from editbench.model_places import model_place
from editbench.rates import STAGES, Measured, fitted, key_of, learn
from editbench.results.run_folder import is_run, read_run
from editbench.results.tables import console
from editbench.threads import threads_for, usable_cores
from editbench.visible_text import visible

if TYPE_CHECKING:
    from editbench.stream import Stream

MEASURED_EDITS = (2, 10)  # of the short runs of --measure
RUNS = "plan-runs"  # their folder in the cache
_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
EPILOG = """examples:
  editbench plan method=rome model=pocket stream.edits=200
  editbench plan -m method=rome,memit stream.seed=0,1,2 --measure
"""


@dataclass(frozen=True)
class Estimate:
    """What a job would take; None where nothing was measured."""

    number: int
    names: str
    edits: int
    done: bool
    weights: int  # bytes
    seconds: float | None
    host: int | None
    device: int | None
    disk: int | None
    judge: str = ""  # which judge is asked how often; empty without one


def scored_rows(config: RunConfig, stream: Stream) -> int:
    """Scores of records that a run makes."""
    edits, final = len(stream), config.protocol.final_first
    stages = config.protocol.stages
    sample = config.protocol.retention_sample
    points = sum(min(point.edits, sample or point.edits) for point in stream.evaluation_points)
    whole = {"immediate": edits, "final": min(edits, final or edits)}
    return points + sum(whole[stage] for stage in stages)


def weights_of(config: ModelConfig) -> tuple[int, int]:
    """Parameters of a model and their bytes, from its config alone (on the device "meta")."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    place = model_place(config.path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(place), revision=config.revision))
    count = sum(parameter.numel() for parameter in model.parameters())
    return count, count * _BYTES[config.dtype]


class Planner:
    """Makes estimates; each model's config is read once."""

    def __init__(self, rates: Mapping[str, list[Measured]], launcher: str = "local") -> None:
        self._rates, self._foresight = rates, Foresight(launcher)
        self._weights: dict[str, tuple[int, int]] = {}

    def estimate(self, number: int, config: RunConfig) -> Estimate:
        """What a job would take. A ValueError or OSError names what is known to be wrong with it."""
        self._foresight.check(config)
        stream = self._foresight.stream(config)
        parameters, weights = self._size(config.model)
        known = self._rates.get(key_of(config.deciding(), _machine(config, parameters)), [])
        edits, rows = [one.edits for one in known], [one.rows for one in known]
        sizes = {stage: (edits, len(stream)) for stage in STAGES} | {EVALUATION: (rows, scored_rows(config, stream))}
        stages = [fitted(of, [one.seconds[stage] for one in known], at) for stage, (of, at) in sizes.items()]
        seconds = None if None in stages else sum(filter(None, stages))
        unrelated = len(self._foresight.records(config).unrelated)
        disk = fitted(edits, [one.disk for one in known], len(stream))
        done = is_run(config.folder) and read_run(config.folder)["status"] == "done"
        return Estimate(
            number=number,
            names=", ".join(map(str, config.names)),
            edits=len(stream),
            done=done,
            weights=weights,
            seconds=0.0 if done else seconds,
            host=max((one.host for one in known if one.host), default=None),
            device=max((one.device for one in known if one.device), default=None),
            disk=None if disk is None else round(disk),
            judge="" if done else judge_line(config.protocol, stream, unrelated, config.stream.seed),
        )

    def unmeasured(self, config: RunConfig) -> bool:
        """Whether runs of this config were measured at less than two sizes."""
        known = self._rates.get(key_of(config.deciding(), _machine(config, self._size(config.model)[0])), [])
        return len({one.edits for one in known}) < 2

    def _size(self, model: ModelConfig) -> tuple[int, int]:
        place = f"{model.path} {model.dtype}"
        if place not in self._weights:
            self._weights[place] = weights_of(model)
        return self._weights[place]


def _machine(config: RunConfig, parameters: int) -> str:
    import torch

    if config.model.device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{provenance.processor()}, {config.threads or threads_for(parameters, usable_cores())} threads"


def limits(results: Path) -> dict[str, int]:
    """Bytes that this machine has free: of host memory, of the first GPU's memory, of the results' disk."""
    import torch

    found = {"host": _free_memory(), "disk": shutil.disk_usage(results).free}
    if torch.cuda.is_available():
        found["device"] = int(torch.cuda.mem_get_info()[0])
    return found


def _free_memory() -> int:
    """Bytes of main memory that programs can still get; where the system does not say, all that there is."""
    info = Path("/proc/meminfo")
    if info.is_file() and (found := re.search(r"^MemAvailable:\s+(\d+) kB", info.read_text(), re.MULTILINE)):
        return int(found[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


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
    disk = sum(one.disk or 0 for one in todo)
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
        planner = Planner(learn([results, cache / RUNS], cache), command.launcher)
        if options.measure:
            _measure(planner, configs)
            planner = Planner(learn([results, cache / RUNS], cache), command.launcher)
        estimates = [planner.estimate(number, config) for number, config in enumerate(configs, start=1)]
    except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        return 2
    first = breaks_first(estimates, limits(results))
    if options.json:
        for one in estimates:
            print(encode(asdict(one)))
    else:
        _show(estimates, first)
    return 1 if first.startswith("too little") else 0


def _parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="editbench plan",
        usage="editbench plan [-m] [--measure] [--json] KEY=VALUE ...",
        description="What runs would take: seconds, memory and disk of each job, and what runs out first.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("-m", "--multirun", action="store_true", help="a sweep")
    found.add_argument("--measure", action="store_true", help="first make two short runs of what was not measured")
    found.add_argument("--json", action="store_true", help="one line of JSON a job, and nothing else")
    return found


def _measure(planner: Planner, configs: Sequence[RunConfig]) -> None:
    """Make two short runs of each config whose rate is not known."""
    from editbench import single_run

    seen = set()
    for config in configs:
        stream = dataclasses.replace(config.stream, edits=MEASURED_EDITS[0], evaluate_at=(), stop_when=())
        key = str(dataclasses.replace(config, stream=stream, results=ResultsConfig()))
        if key in seen or not planner.unmeasured(config):
            continue
        seen.add(key)
        for edits in MEASURED_EDITS:
            print(f"measuring {', '.join(map(str, config.names))}: {edits} edits", file=sys.stderr)
            place = ResultsConfig(dir=str(config.cache / RUNS), continue_from="never")
            short = dataclasses.replace(stream, edits=edits)
            single_run.run(dataclasses.replace(config, stream=short, results=place))


def _show(estimates: Sequence[Estimate], first: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("job", "run", "edits", "seconds", "weights", "host memory", "GPU memory", "disk")
    for one in estimates:
        cells = [None if size is None else _size(size) for size in (one.host, one.device, one.disk)]
        seconds = "done" if one.done else None if one.seconds is None else f"{one.seconds:.0f}"
        texts = [str(one.number), one.names, str(one.edits), seconds, _size(one.weights), *cells]
        table.add_row(*(Text(visible("—" if text is None else text)) for text in texts))
    console().print(table)
    for one in estimates:
        if one.judge:
            print(f"job {one.number}: {one.judge}")
    known = [one.seconds for one in estimates if one.seconds is not None]
    unknown = len(estimates) - len(known)  # done ones take 0 s
    missing = f"; of {unknown} no rate was measured here (--measure makes short runs)" if unknown else ""
    done = sum(one.done for one in estimates)
    print(f"{len(estimates)} jobs, {done} of them done: {sum(known):.0f} s in all{missing}")
    print(first)

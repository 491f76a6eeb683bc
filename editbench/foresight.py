"""Mistakes of a run that can be known before its model is loaded: a sweep with one is refused before its first job."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from editbench import compose, datasets
from editbench.config import ModelConfig, RunConfig
from editbench.editor import layers_of
from editbench.evaluation.judge.endpoint import check_key
from editbench.evaluation.questions import check_headline
from editbench.files import make_folder
from editbench.model.chat_template import format_of
from editbench.model_places import model_place
from editbench.records import RecordSet
from editbench.stream import Stream
from editbench.visible_text import one_line

ELSEWHERE = ("submitit_slurm", "ray")
"""Launchers whose jobs may run on machines with other devices."""


class Foresight:
    """Looks at configs; records that several share are read once."""

    def __init__(self, launcher: str = "local", elsewhere: bool = False) -> None:
        self._elsewhere = elsewhere or launcher in ELSEWHERE
        self._records: dict[str, RecordSet] = {}
        self._layers: dict[str, int | None] = {}

    def check(self, config: RunConfig) -> None:
        """A ValueError or OSError with the first mistake that is known now."""
        make_folder(Path(config.results.dir))
        check_headline(config.protocol.headline, config.protocol.metrics)
        if not self._elsewhere:
            check_device(config.model.device)
            check_key(config.protocol.judge)
        self._check_layers(config)
        self.stream(config)

    def stream(self, config: RunConfig) -> Stream:
        """The stream of a config; a ValueError if the records are too few."""
        return Stream.build(self.records(config), config.stream)

    def records(self, config: RunConfig) -> RecordSet:
        """The records of a config."""
        form = format_of(config.dataset, config.model)
        key = json.dumps([asdict(config.dataset), str(form)], sort_keys=True, default=str)
        if key not in self._records:
            self._records[key] = datasets.from_config(config.dataset, form)
        return self._records[key]

    def _check_layers(self, config: RunConfig) -> None:
        place = str(model_place(config.model.path))
        if place not in self._layers:
            self._layers[place] = count_layers(config.model)
        count = self._layers[place]
        for layer in layers_of(config.method.settings):
            if count is not None and not 0 <= layer < count:
                raise ValueError(f"layer {layer} does not exist: {config.model.name} has layers 0 to {count - 1}")


def check_device(device: str) -> None:
    """Refuse a GPU that this machine lacks."""
    import torch

    from editbench.model.devices import MPS, usable_device

    if device == MPS:
        usable_device(device)
    if not device.startswith("cuda"):
        return
    number = device.partition(":")[2]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count <= (int(number) if number.isdecimal() else 0):
        raise ValueError(f"model.device={device}: this machine has {count or 'no'} GPUs; leave model.device out")


def count_layers(config: ModelConfig) -> int | None:
    """Number of decoder layers of a model in a folder, by its config.json; None of others, or if it does not say."""
    place = Path(model_place(config.path))
    if not place.is_dir():
        return None
    try:
        plain: dict[str, Any] = json.loads((place / "config.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise FileNotFoundError(f"no model at {config.path!r}: {place} has no config.json") from error
    plain = plain.get("text_config") or plain
    found = next((plain[name] for name in ("num_hidden_layers", "n_layer", "num_layers") if name in plain), None)
    return found if isinstance(found, int) else None


def refuse_foreseen(jobs: Sequence[Sequence[str]], hydra: Sequence[str] = (), launcher: str = "local") -> None:
    """Raise a ValueError that lists the jobs which cannot work, given by their overrides and those of Hydra."""
    foresight, found, configs = Foresight(launcher), [], []
    for number, job in enumerate(jobs, start=1):
        try:
            configs.append(compose.parse(compose.compose_node([*job, *hydra])))
            foresight.check(configs[-1])
        except (ValueError, OSError) as error:
            if len(jobs) == 1:
                raise
            found.append("  " + one_line(f"job {number} ({' '.join(own_part(job, jobs))}): {error}"))
    if found:
        raise ValueError("\n".join([f"{len(found)} of {len(jobs)} jobs cannot work, and none was run:", *found]))
    same = {config.stream.seed for config in configs if config.stream.sample == "first" and config.stream.edits}
    if len(same) > 1:
        print(
            f"note: the {len(same)} seeds edit the same records in another order (stream.sample=first); "
            "stream.sample=random draws others",
            file=sys.stderr,
        )


def own_part(job: Sequence[str], jobs: Sequence[Sequence[str]]) -> list[str]:
    """The overrides of a job that not all jobs have."""
    return [one for one in job if not all(one in other for other in jobs)]

"""What a run would take: seconds by measured rates, memory by measured peaks or from the model's config, disk.

Seconds of each stage are fitted to finished runs of the same config with other numbers of edits: a constant, and a
rate for each edit or scored record. Without two such runs of different size there is no time. The model is made on
the device "meta", which takes no memory; only one of up to ``LOADED`` bytes is loaded, to look into the cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench import provenance, registry
from editbench.cache_lookup import CacheLookup, Found
from editbench.costs import EVALUATION
from editbench.editor import layers_of
from editbench.evaluation.judge.verdicts import judge_line
from editbench.evaluation.scoring_plan import ScoringPlan
from editbench.foresight import Foresight
from editbench.model.architectures import find_architecture, module_at, projection_sizes
from editbench.model.likelihood import CPU_TOKENS, GPU_TOKENS
from editbench.model_places import model_place
from editbench.rates import CPU, GPU, STAGES, Measured, fitted, key_of, quickest
from editbench.results.run_folder import is_run, read_run
from editbench.threads import threads_for, usable_cores

if TYPE_CHECKING:
    from editbench.config import ModelConfig, RunConfig
    from editbench.stream import Stream

LOADED = 1 << 31
"""Bytes of weights of the largest model that is loaded to look into the cache, unless that is asked for."""
PROGRAMS = 450 << 20
"""Bytes of Python, its libraries and what a run keeps of records: 435 to 475 MiB were measured on Linux, torch 2.13."""
_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Estimate:
    """What a job would take; None where it is not known."""

    number: int
    names: str
    edits: int
    done: bool
    weights: int  # bytes
    seconds: float | None  # from its records to its last file
    host: int | None
    device: int | None
    measured: bool  # whether a run of this config gave its memory; else the model's config did
    disk: int | None
    cache: str | None  # what is read and what is computed, in words
    judge: str = ""  # which judge is asked how often; empty without one


@dataclass(frozen=True)
class Shape:
    """A model without its weights."""

    model: Any  # on the device "meta"
    parameters: int
    bytes: int
    of_a_number: int  # bytes

    @classmethod
    def of(cls, config: ModelConfig) -> Shape:
        """From the config alone."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        place = model_place(config.path)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(place), revision=config.revision))
        count, size = sum(parameter.numel() for parameter in model.parameters()), _BYTES[config.dtype]
        return cls(model, count, count * size, size)

    def matrices(self, layers: Sequence[int]) -> int:
        """Bytes of the covariance of these layers' second projections and of its factor, in float64."""
        return sum(2 * 8 * self._inputs(layer) ** 2 for layer in layers)

    def working(self, tokens: int) -> int:
        """Bytes of the hidden states of a forward pass over so many tokens."""
        width = int(self.model.get_input_embeddings().weight.shape[1])
        return tokens * (self._inputs(0) + 4 * width) * self.of_a_number

    def _inputs(self, layer: int) -> int:
        row = find_architecture(self.model)
        at = f"{row.layers}.{layer}.{row.mlp_out}"
        return 0 if row.no_edits else projection_sizes(module_at(self.model, at), at)[0]


def scored_rows(config: RunConfig, stream: Stream) -> int:
    """Scores of records that a run makes."""
    plan, edits = ScoringPlan(stream, config.protocol, config.stream.seed), len(stream)
    sample = config.protocol.retention_sample
    points = sum(min(point.edits, sample or point.edits) for point in stream.evaluation_points)
    right_after = edits if plan.right_after else 0
    return points + right_after + (len(plan.records_at_the_end(edits)) if plan.at_the_end else 0)


class Planner:
    """Makes estimates; each model's config is read once.

    ``look``: True looks into the cache whatever the model's size, False never does, None by ``LOADED``.
    """

    def __init__(self, rates: Mapping[str, list[Measured]], launcher: str = "local", look: bool | None = None) -> None:
        self._rates, self._foresight, self._look = rates, Foresight(launcher), look
        self._shapes: dict[str, Shape] = {}
        self._lookup = CacheLookup()

    def estimate(self, number: int, config: RunConfig) -> Estimate:
        """What a job would take. A ValueError or OSError names what is known to be wrong with it."""
        self._foresight.check(config)
        stream, shape = self._foresight.stream(config), self.shape(config.model)
        done = is_run(config.folder) and read_run(config.folder)["status"] == "done"
        found = None if done or not self._looks(config.model, shape) else self._lookup(number, config)
        known = self._known(config)
        disk = fitted([one.edits for one in known], [one.disk for one in known], len(stream))
        host, device, measured = self._memory(config, len(stream))
        return Estimate(
            number=number,
            names=", ".join(map(str, config.names)),
            edits=len(stream),
            done=done,
            weights=shape.bytes,
            seconds=0.0 if done else self._seconds(config, stream, found),
            host=host,
            device=device,
            measured=measured,
            disk=None if disk is None else round(disk),
            cache=None if found is None else str(found),
            judge="" if done else self._judge(config, stream),
        )

    def shape(self, model: ModelConfig) -> Shape:
        """The model on the device "meta"."""
        place = f"{model.path} {model.dtype}"
        if place not in self._shapes:
            self._shapes[place] = Shape.of(model)
        return self._shapes[place]

    def _judge(self, config: RunConfig, stream: Stream) -> str:
        unrelated = len(self._foresight.records(config).unrelated)
        return judge_line(config.protocol, stream, unrelated, config.stream.seed)

    def unmeasured(self, config: RunConfig) -> bool:
        """Whether runs of this config were measured at less than two sizes."""
        return len({one.edits for one in self._known(config)}) < 2

    def _known(self, config: RunConfig) -> list[Measured]:
        return self._rates.get(key_of(config.deciding(), self._machine(config)), [])

    def _looks(self, model: ModelConfig, shape: Shape) -> bool:
        here = Path(model_place(model.path)).exists()
        return self._look if self._look is not None else here and shape.bytes <= LOADED

    def _seconds(self, config: RunConfig, stream: Stream, found: Found | None) -> float | None:
        """Of loading and all stages, without what is read from the cache; None if a rate is missing."""
        known = self._known(config)
        edits, rows = [one.edits for one in known], [one.rows for one in known]
        sizes = {stage: (edits, len(stream)) for stage in STAGES} | {EVALUATION: (rows, scored_rows(config, stream))}
        loading = f"loading {config.model.path} {config.model.dtype}, {self._machine(config)}"
        parts = [quickest(config.cache, loading, None if found is None else found.loading)]
        parts += [fitted(of, [one.seconds[stage] for one in known], at) for stage, (of, at) in sizes.items()]
        read = 0.0 if found is None else sum(found.read.values())
        return None if None in parts else max(0.0, sum(filter(None, parts)) - read)

    def _memory(self, config: RunConfig, edits: int) -> tuple[int | None, int | None, bool]:
        """Peak bytes of the process and of the GPUs, and whether runs of this config gave them."""
        shape, gpu = self.shape(config.model), _on_gpu(config)
        known = self._rates.get(key_of(config.deciding(), GPU if gpu else CPU), [])
        if known:
            return self._peak(known, "host", edits), self._peak(known, "device", edits), True
        method, settings = registry.load_method(config.method.name), config.method.settings
        covariance = method.capabilities.needs_covariance and getattr(settings, "covariance_adjustment", True)
        matrices = shape.matrices(layers_of(settings)) if covariance else 0
        whole = shape.bytes + matrices + shape.working(GPU_TOKENS if gpu else CPU_TOKENS)
        return (None, whole, False) if gpu else (PROGRAMS + whole, None, False)

    @staticmethod
    def _peak(known: Sequence[Measured], kind: str, edits: int) -> int | None:
        """The highest peak of these runs, with what the method would keep after so many edits."""
        kept = fitted([one.edits for one in known], [one.kept[kind] for one in known], edits)
        peaks = [one.memory(kind, one.kept[kind] if kept is None else kept) for one in known]
        return max((round(peak) for peak in peaks if peak is not None), default=None)

    def _machine(self, config: RunConfig) -> str:
        import torch

        if _on_gpu(config):
            return torch.cuda.get_device_name()
        threads = config.threads or threads_for(self.shape(config.model).parameters, usable_cores())
        return f"{provenance.processor()}, {threads} threads"


def _on_gpu(config: RunConfig) -> bool:
    import torch

    return config.model.device != "cpu" and torch.cuda.is_available()

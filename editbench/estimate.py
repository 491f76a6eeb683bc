"""What a run would take: seconds by measured rates, memory by measured peaks or from the model's config, disk.

Memory and disk come from finished runs, or from the model's config, the method and the stream (:mod:`editbench.room`).
Seconds of each stage are fitted to finished runs of the same config with other numbers of edits: a constant, and a
rate for each edit or scored record. Without two such runs of different size, or one of the same size, there is no time.
The model is made on the device "meta", which takes no memory; only one of up to ``LOADED`` bytes is loaded, to look
into the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from editbench import provenance, registry
from editbench.cache_lookup import CacheLookup, Found
from editbench.costs import EVALUATION
from editbench.evaluation.judge.verdicts import judge_line
from editbench.evaluation.scoring_plan import ScoringPlan
from editbench.foresight import Foresight
from editbench.model.likelihood import CPU_TOKENS, GPU_TOKENS
from editbench.model.shape import Shape
from editbench.model_places import model_place
from editbench.rates import CPU, GPU, STAGES, Measured, fitted, key_of, quickest
from editbench.results.run_folder import is_run, read_run
from editbench.room import Workload
from editbench.threads import threads_for, usable_cores

if TYPE_CHECKING:
    from editbench.config import ModelConfig, RunConfig
    from editbench.stream import Stream

LOADED = 1 << 31
"""Bytes of weights of the largest model that is loaded to look into the cache, unless that is asked for."""
PROGRAMS = 450 << 20
"""Bytes of Python, its libraries and what a run keeps of records: 435 to 475 MiB were measured on Linux, torch 2.13."""
ROW_BYTES, EDIT_BYTES, RUN_BYTES = 3800, 250, 35_000
"""Of a scored record, of an edit and of the rest in a run's folder: measured with the embedded world's 13 prompts."""
NO_GPU = "a GPU that this machine lacks"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
LETTERS = 4  # of a token, where a model has no tokenizer beside it


@dataclass(frozen=True)
class Foreseen:
    """Bytes that a job would take at most: of memory, of its folder, and of the cache."""

    host: int
    device: int | None  # None where the model stays on the CPU
    disk: int
    cached: int


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
    disk: int  # of its folder
    weighed: bool  # whether folders of such runs gave it; else the method and the model's config did
    cached: int  # bytes of its files in the cache, whether they lie there or not
    cache: str | None  # what is read and what is computed, in words
    judge: str = ""  # which judge is asked how often; empty without one


def scored_rows(config: RunConfig, stream: Stream) -> int:
    """Scores of records that a run makes."""
    plan, edits = ScoringPlan(stream, config.protocol, config.stream.seed), len(stream)
    sample = config.protocol.retention_sample
    points = sum(min(point.edits, sample or point.edits) for point in stream.evaluation_points)
    right_after = edits if plan.right_after else 0
    return points + right_after + (len(plan.records_at_the_end(edits)) if plan.at_the_end else 0)


class Planner:
    """Makes estimates; each model's config is read once.

    ``look``: True looks into the cache whatever the model's size, False never does, None by ``LOADED``. ``gpu``: for
    runs on a GPU, whether this machine has one or not.
    """

    def __init__(
        self,
        rates: Mapping[str, list[Measured]],
        launcher: str = "local",
        look: bool | None = None,
        gpu: bool = False,
    ) -> None:
        self._rates, self._foresight, self._look = rates, Foresight(launcher, elsewhere=gpu), look
        self._shapes: dict[str, Shape] = {}
        self._counts: dict[str, Callable[[str], int]] = {}
        self._gpu = gpu
        self._lookup = CacheLookup()

    def estimate(self, number: int, config: RunConfig) -> Estimate:
        """What a job would take. A ValueError or OSError names what is known to be wrong with it."""
        self._foresight.check(config)
        stream, shape = self._foresight.stream(config), self.shape(config.model)
        done = is_run(config.folder) and read_run(config.folder)["status"] == "done"
        found = None if done or not self._looks(config.model, shape) else self._lookup(number, config)
        known = self._known(config)
        disk = fitted([one.edits for one in known], [one.disk for one in known], len(stream))
        foreseen = self.foreseen(config)
        host, device, measured = self._memory(config, len(stream), foreseen)
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
            disk=foreseen.disk if disk is None else round(disk),
            weighed=disk is not None,
            cached=foreseen.cached,
            cache=None if found is None else str(found),
            judge="" if done else self._judge(config, stream),
        )

    def shape(self, model: ModelConfig) -> Shape:
        """The model on the device "meta"."""
        gpu = self._on_gpu(model)
        place = f"{model.path} {model.dtype} {model.edited_dtype} {gpu}"
        if place not in self._shapes:
            self._shapes[place] = Shape.of(model, gpu)
        return self._shapes[place]

    def foreseen(self, config: RunConfig) -> Foreseen:
        """Memory and disk by the model's config, the method and the stream alone."""
        shape, stream = self.shape(config.model), self._foresight.stream(config)
        requests = [record.request for record in stream.records]
        batch = 1 if stream.single else stream.batch_size
        work = Workload.of(requests, batch, self._count(config.model), config.model.templates)
        room = registry.load_method(config.method.name).room(config.method.settings, shape, work)
        tokens = config.protocol.tokens_per_batch or (GPU_TOKENS if shape.gpu else CPU_TOKENS)
        most = room.most(shape.scoring(tokens))
        disk = room.disk + ROW_BYTES * scored_rows(config, stream) + EDIT_BYTES * len(stream) + RUN_BYTES
        here = PROGRAMS + shape.bytes + room.host  # a model is read into the host's memory first
        if shape.gpu:
            return Foreseen(here, shape.bytes + most, disk, room.cache)
        return Foreseen(here + most, None, disk, room.cache)

    def _count(self, model: ModelConfig) -> Callable[[str], int]:
        """Counts the tokens of a text: by the tokenizer beside the model, or by its letters where there is none."""
        if model.path not in self._counts:
            self._counts[model.path] = token_counter(model_place(model.path))
        return self._counts[model.path]

    def _judge(self, config: RunConfig, stream: Stream) -> str:
        unrelated = len(self._foresight.records(config).unrelated)
        return judge_line(config.protocol, stream, unrelated, config.stream.seed)

    def unmeasured(self, config: RunConfig) -> bool:
        """Whether too few runs of this config were measured to know the seconds of all stages."""
        return None in self._stages(config, self.stream(config))

    def stream(self, config: RunConfig) -> Stream:
        """The stream of a config; a ValueError if the records are too few."""
        return self._foresight.stream(config)

    def _known(self, config: RunConfig) -> list[Measured]:
        return self._rates.get(key_of(config.deciding(), self._machine(config)), [])

    def _looks(self, model: ModelConfig, shape: Shape) -> bool:
        if self._look is not None:
            return self._look
        return not (self._gpu or shape.bytes > LOADED) and has_weights(model_place(model.path))

    def _seconds(self, config: RunConfig, stream: Stream, found: Found | None) -> float | None:
        """Of loading and all stages, without what is read from the cache; None if a rate is missing."""
        loading = f"loading {config.model.path} {config.model.dtype}, {self._machine(config)}"
        parts = [quickest(config.cache, loading, None if found is None else found.loading)]
        parts += self._stages(config, stream)
        read = 0.0 if found is None else sum(found.read.values())
        return None if None in parts else max(0.0, sum(filter(None, parts)) - read)

    def _stages(self, config: RunConfig, stream: Stream) -> list[float | None]:
        """Seconds of each stage; None where a rate is missing."""
        known = self._known(config)
        edits, rows = [one.edits for one in known], [one.rows for one in known]
        sizes = {stage: (edits, len(stream)) for stage in STAGES} | {EVALUATION: (rows, scored_rows(config, stream))}
        return [fitted(of, [one.seconds[stage] for one in known], at) for stage, (of, at) in sizes.items()]

    def _memory(self, config: RunConfig, edits: int, foreseen: Foreseen) -> tuple[int | None, int | None, bool]:
        """Peak bytes of the process and of the GPUs, and whether runs of this config gave them."""
        known = self._rates.get(key_of(config.deciding(), GPU if self._on_gpu(config.model) else CPU), [])
        if known:
            return self._peak(known, "host", edits), self._peak(known, "device", edits), True
        return foreseen.host, foreseen.device, False

    @staticmethod
    def _peak(known: Sequence[Measured], kind: str, edits: int) -> int | None:
        """The highest peak of these runs, with what the method would keep after so many edits."""
        kept = fitted([one.edits for one in known], [one.kept[kind] for one in known], edits)
        peaks = [one.memory(kind, one.kept[kind] if kept is None else kept) for one in known]
        return max((round(peak) for peak in peaks if peak is not None), default=None)

    def _on_gpu(self, model: ModelConfig) -> bool:
        import torch

        return self._gpu or (model.device != "cpu" and torch.cuda.is_available())

    def _machine(self, config: RunConfig) -> str:
        import torch

        if self._on_gpu(config.model):
            return torch.cuda.get_device_name() if torch.cuda.is_available() else NO_GPU
        threads = config.threads or threads_for(self.shape(config.model).parameters, usable_cores())
        return f"{provenance.processor()}, {threads} threads"


def token_counter(place: Path | str) -> Callable[[str], int]:
    """A function that counts a text's tokens, without BOS: by a folder's tokenizer, or one for so many letters."""
    if not any((Path(place) / name).is_file() for name in TOKENIZERS):
        return lambda text: -(-len(text) // LETTERS)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(place))
    return lambda text: len(tokenizer(text, add_special_tokens=False).input_ids)


def has_weights(place: Path | str) -> bool:
    """Whether a model's weights lie there: a file, or a folder with safetensors."""
    return Path(place).is_file() or any(Path(place).glob("*.safetensors"))

"""Config dataclasses with their checks, from the YAML files in ``conf/`` and the command line.

A method's own settings are its config dataclass, a dataset's own settings its settings dataclass.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from editbench import fetched
from editbench.architecture_config import ArchitectureConfig as ArchitectureConfig
from editbench.checks import at_least, folder_name, not_empty, one_of, unknown, whole_number
from editbench.protocol_parts import AbilityConfig as AbilityConfig
from editbench.protocol_parts import JudgeConfig as JudgeConfig
from editbench.stopping import NONFINITE, Condition
from editbench.tracker_config import TrackerConfig as TrackerConfig

HEADLINE = ("reliability", "generality", "locality")
STAGES = ("immediate", "final")
MODES = ("sequential", "single")
OF_SEQUENCES = ("evaluate_at", "revisions", "stop_when")  # fields that mean nothing for single edits
SAMPLES = ("retention_sample", "text_sample", "hidden_shift")  # counts of a protocol
NOT_DECIDING = ("results", "cache", "tracker", "precompute", "threads")
"""Parts of a config that change no number of the run; threads move last bits, and are kept with the run instead."""
LATER = {"later": True}
"""Metadata of a field that runs were made without: at its default it decides nothing, and they are found again."""


@dataclass
class ModelConfig:
    """The model, and what editors may use with it.

    Attributes:
        path: "pocket", "pocket-gpt2", a fetched model ("smollm2-135m"), a folder, a GGUF file, or a hub id.
        name: Name in results; the last part of the path by default.
        dtype: "float32", "float64", "bfloat16" or "float16".
        edited_dtype: "float32" holds the matrices that the method edits in it while the rest is in half precision, so
            that small changes add up; null leaves them in dtype.
        device: "auto", "cpu", "cuda:0", …, "mps" (an Apple GPU), or "spread" over all GPUs, then main memory and disk.
        attention: "sdpa" or "eager"; null is the architecture's own choice.
        revision: Hub revision.
        architecture: Module paths for an unknown architecture; null leaves the known one.
        texts: Plain text for covariance: "pocket" (the embedded world's), "self" (sampled from the unedited
            model with the run's seed), a file (rows with ``text``, Parquet's, too, or one text a line), a folder of
            files, or "hub:NAME[:CONFIG][@SPLIT]".
        texts_tokens: Tokens to sample where texts is "self".
        covariance: Safetensors file with covariance by layer number, or a published .npz; null computes it from texts.
        templates: Context templates with one "{}" each; null samples them from the model.
    """

    path: str = "???"  # must be given
    name: str | None = None
    dtype: str = "float32"
    device: str = "auto"
    attention: str | None = None
    revision: str | None = None
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    texts: str = "self"
    texts_tokens: int = 40_000
    covariance: str | None = None
    templates: list[str] | None = None
    edited_dtype: str | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        not_empty(**{"model.path": self.path})
        if self.edited_dtype is not None:
            one_of(["float32"], **{"model.edited_dtype": self.edited_dtype})
            if self.dtype == "float64":
                raise ValueError("model.edited_dtype=float32 is narrower than model.dtype=float64; leave it out")
        self.name = self.name or Path(self.path).name


@dataclass
class DatasetConfig:
    """Records to edit.

    Attributes:
        name: Registered name ("counterfact").
        path: JSON, JSON Lines, CSV, TSV or Parquet file, folder, "hub:NAME[:CONFIG][@SPLIT]", "fetched" (by `editbench
            fetch`), or "pocket", the embedded world.
        limit: Number of records read from the start of the split; null reads all.
        split: "stream", "tune", "train" or "all"; null is "stream" for the embedded world and for published files,
            "all" for others.
        on_error: "raise" for a record that cannot be used, or "skip".
        settings: Instance of the dataset's own settings dataclass; None takes its defaults.
    """

    name: str
    path: str
    limit: int | None = None
    on_error: str = "raise"
    settings: Any = None
    split: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.path, (str, Path)):  # as YAML reads null, true or 1e3
            given = json.dumps(self.path, default=str)
            remedy = "it must be a text: a path, hub:NAME, fetched or pocket; in a YAML file, put it in quotes"
            raise ValueError(f"dataset.path is {given}; {remedy}")
        not_empty(**{"dataset.path": self.path})


@dataclass
class MethodConfig:
    """The method with its settings.

    Attributes:
        name: Registered name ("rome").
        hparams: Origin of the settings that fit the model ("tuned"), or name of the set that was asked for; "defaults"
            where only the dataclass's defaults hold; None for a method without hparams.
        settings: Instance of the method's own config dataclass.
        tuning: Files that say how ``editbench tune`` found the settings; they decide no number.
    """

    name: str
    hparams: str | None
    settings: Any
    tuning: tuple[Path, ...] = ()


@dataclass
class StreamConfig:
    """Choice, order and batches of the records.

    Attributes:
        edits: Number of edits; null edits all records.
        batch_size: Edits that are written at once.
        seed: Seed of the draw and of the order; also of context templates, sampled texts and samples of records.
        sample: "first" takes the first ``edits`` records of the file, "random" draws them from all.
        order: "shuffled" or "file".
        evaluate_at: Numbers of edits after which all records so far are scored; "powers" stands for 1, 10, 100, …,
            "every:K" for K, 2 K, 3 K, …, as far as there are edits, "all" for every batch.
        mode: "sequential" keeps every edit in the model; "single" makes each alone on the unedited model, scores it and
            takes it back.
        revisions: Share of the edits that correct an earlier edit of the stream again, from 0 to 0.5.
        stop_when: Conditions, one or a list, each of which ends the run as collapsed (:mod:`editbench.stopping`).
    """

    edits: int | None = 50
    batch_size: int = 1
    seed: int = 0
    sample: str = "first"
    order: str = "shuffled"
    evaluate_at: Any = ()
    mode: str = "sequential"
    revisions: float = 0.0
    stop_when: Any = ()

    def __post_init__(self) -> None:
        if isinstance(self.evaluate_at, (list, tuple)):
            self.evaluate_at = tuple(self.evaluate_at)
            for count in self.evaluate_at:
                whole_number(1, **{"stream.evaluate_at": count})
        elif not re.fullmatch(r"powers|all|every:[1-9][0-9]*", str(self.evaluate_at)):
            raise ValueError(
                f"stream.evaluate_at is {self.evaluate_at!r}; it must be a list of counts, 'powers', 'every:K' or 'all'"
            )
        if self.edits is not None:
            whole_number(1, **{"stream.edits": self.edits})
        whole_number(1, **{"stream.batch_size": self.batch_size})
        whole_number(0, **{"stream.seed": self.seed})
        one_of(("first", "random"), **{"stream.sample": self.sample})
        one_of(("shuffled", "file"), **{"stream.order": self.order})
        one_of(MODES, **{"stream.mode": self.mode})
        if not 0 <= self.revisions <= 0.5:
            raise ValueError(f"stream.revisions is {self.revisions}; it must be a share from 0 to 0.5")
        self.stop_when = (self.stop_when,) if isinstance(self.stop_when, str) else tuple(self.stop_when or ())
        at_points = [text for text in self.stop_when if Condition.parse(text).quantity != NONFINITE]
        if at_points and not self.evaluate_at and self.mode != "single":
            raise ValueError(
                f"stream.stop_when={at_points[0]!r} is looked at where all edits are evaluated, and there is no such "
                "place; add one, as in stream.evaluate_at=every:10"
            )
        given = {"batch_size": self.batch_size > 1, **{of: getattr(self, of) for of in OF_SEQUENCES}}
        if self.mode == "single" and any(given.values()):
            name = next(name for name, value in given.items() if value)
            value = getattr(self, name)
            raise ValueError(f"stream.mode=single makes each edit alone: leave out stream.{name}={value!r}")


@dataclass
class ProtocolConfig:
    """Metrics, stages and headline. Three fields are by dataset name or "default" until :meth:`for_dataset`.

    Attributes:
        name: Name in results.
        metrics: Metrics to apply (``editbench list metrics``).
        stages: "immediate" (a batch's own records right after it), "final" (all records at the end).
        retention_sample: Number of the records so far that ``stream.evaluate_at`` scores, drawn by seed; null: all.
        final_first: Number of the stream's first edits that are scored at the end; null scores all. By dataset in YAML.
        headline: "<probe kind>.<metric>" of reliability, generality and locality. By dataset in YAML.
        hidden_shift: Number of facts never edited whose hidden states are compared with those before the edits.
        text_sample: Number of plain texts, the first, for "plain_sample" at ``stream.evaluate_at``; null: all texts.
        tokens_per_batch: Padded tokens that evaluation runs at once; null suits the device.
        max_tokens: Longest text scored for perplexity, in tokens.
        max_new_tokens: Tokens generated for an answer; null: the target's, and 5 more, at most 128.
        beams: Beams of the generation; 1 is greedy.
        repetition_penalty: Penalty on tokens that occurred before; 1 is none.
        data: Settings of the dataset that belong to the protocol. By dataset in YAML ("zsre: {target: answers}").
        ability: Tests of general ability.
        judge: Model that says whether generated answers are right.
    """

    name: str = "default"
    metrics: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=lambda: list(STAGES))
    retention_sample: int | None = None
    text_sample: int | None = None
    hidden_shift: int | None = None
    final_first: Any = None
    headline: dict[str, Any] = field(default_factory=dict)
    tokens_per_batch: int | None = None
    max_tokens: int = 512
    max_new_tokens: int | None = None
    beams: int = 1
    repetition_penalty: float = 1.0
    data: dict[str, Any] = field(default_factory=dict)
    ability: AbilityConfig = field(default_factory=AbilityConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)

    def __post_init__(self) -> None:
        at_least(1, **{f"protocol.{name}": getattr(self, name) for name in SAMPLES})
        for stage in self.stages:
            if stage not in STAGES:
                raise unknown("stage", stage, STAGES)
        if not isinstance(self.judge, JudgeConfig):
            raise TypeError(f"protocol.judge is {self.judge!r}; it must be a JudgeConfig")
        self.metrics = self.judge.with_its_metrics(self.metrics)

    def for_dataset(self, dataset: str) -> ProtocolConfig:
        """The protocol with ``final_first``, ``headline`` and ``data`` of one dataset."""
        first = self.final_first or {}
        count = first.get(dataset, first.get("default"))
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ValueError(f"protocol.final_first is {count} for {dataset}; it must be at least 1, or null for all")
        headline = self.headline.get(dataset) or self.headline.get("default") or {}
        for name in headline:
            if name not in HEADLINE:
                raise unknown("headline measure", name, HEADLINE)
        texts = {name: str(measure) for name, measure in headline.items()}
        return replace(self, final_first=count, headline=texts, data=dict(self.data.get(dataset) or {}))


@dataclass
class ResultsConfig:
    """Place of a run's files.

    Attributes:
        dir: Folder of all runs.
        name: The run's folder; made from the config by default, so that the same command finds its run again.
        rerun: Repeat a finished run from the start.
        continue_from: Run, by name or folder, whose edits this longer one takes over; null looks among the runs in
            ``dir``, "never" starts at the first edit.
    """

    dir: str = "results"
    name: str | None = None
    rerun: bool = False
    continue_from: str | None = None

    def __post_init__(self) -> None:
        not_empty(**{"results.dir": self.dir})
        self.dir = str(Path(self.dir).expanduser())
        if self.name is not None:
            folder_name(**{"results.name": self.name})


@dataclass
class PrecomputeConfig:
    """Work of ``editbench precompute`` for the runs that share a cache; ``editbench run`` ignores it.

    Attributes:
        find_values: Also find the stream's values, for methods whose values do not depend on earlier edits (NSE);
            false computes covariance alone.
        part: Index of the part of the stream whose values are found.
        parts: Number of parts: sweep over ``part`` to compute them side by side.
    """

    find_values: bool = True
    part: int = 0
    parts: int = 1

    def __post_init__(self) -> None:
        at_least(1, **{"precompute.parts": self.parts})
        if not 0 <= self.part < self.parts:
            raise ValueError(
                f"precompute.part is {self.part}; it must be from 0 to precompute.parts - 1, {self.parts - 1}"
            )


@dataclass
class RunConfig:
    """Config of one run, as :func:`editbench.compose.parse` makes it. The protocol is resolved for the dataset.

    ``threads`` are those of torch's operations in a new run; None follows the rule of :mod:`editbench.threads`.
    """

    method: MethodConfig
    model: ModelConfig
    dataset: DatasetConfig
    stream: StreamConfig
    protocol: ProtocolConfig
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    results: ResultsConfig = field(default_factory=ResultsConfig)
    precompute: PrecomputeConfig = field(default_factory=PrecomputeConfig)
    cache: Path = field(default_factory=fetched.cache_folder)
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None:
            whole_number(1, threads=self.threads)
        self.cache = fetched.usable_cache(self.cache)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, laid out as in YAML: a method's and a dataset's own settings beside their names."""
        plain = {**asdict(self), "cache": str(self.cache)}
        for part in ("method", "dataset"):
            plain[part] |= plain[part].pop("settings")
        del plain["method"]["tuning"]
        return plain

    def deciding(self) -> dict[str, Any]:
        """The parts of :meth:`as_dict` that change numbers."""
        plain = {name: part for name, part in self.as_dict().items() if name not in NOT_DECIDING}
        parts = {**vars(self), "method": self.method.settings}
        for name, part in plain.items():
            for one in fields(parts[name]):
                if one.metadata.get("later") and part[one.name] == one.default:
                    del part[one.name]
        del plain["protocol"]["judge"]
        if judge := self.protocol.judge.deciding():
            plain["protocol"]["judge"] = judge
        return plain

    @property
    def names(self) -> list[str | None]:
        """Method, model, dataset and seed, for titles."""
        return [self.method.name, self.model.name, self.dataset.name, f"seed {self.stream.seed}"]

    @property
    def folder(self) -> Path:
        """Folder of the run: by default readable parts, and a digest of every setting that decides numbers."""
        digest = hashlib.sha256(json.dumps(self.deciding(), sort_keys=True, default=str).encode()).hexdigest()[:8]
        stream = self.stream
        edits = "all" if stream.edits is None else stream.edits
        parts = [self.dataset.name, self.model.name, self.method.name]
        batches = stream.mode if stream.mode == "single" else f"b{stream.batch_size}"
        parts += [f"e{edits}", batches, f"s{stream.seed}", digest]
        name = "-".join("".join(c if c.isalnum() or c in "._" else "_" for c in str(p)) for p in parts)
        return Path(self.results.dir, self.results.name or name)

"""The shape of a run's configuration, typed, so that a wrong type or unknown key fails before any model is loaded.

The values come from the YAML files in ``conf/`` and from the command line; a method's own settings are its config
dataclass, a dataset's own settings its settings dataclass.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from editbench.checks import one_of, whole_number


@dataclass
class TrackerConfig:
    """Settings of a tracker; none of them changes a run's numbers.

    Attributes:
        name: "none", "wandb", "tensorboard" or "trackio".
        mode: "online", "offline" or "disabled", for wandb; null is what ``WANDB_MODE`` says, or else online.
        project: Project of the service; null is what its environment variable says, or else "editbench".
        entity: User or team, for wandb.
        group: Runs of a sweep under one name; null is dataset, model, method, stream and identity: what seeds share.
        tags: Tags beside dataset, model and method.
        tables: Also send one row a record, when the run ends.
        start_seconds: The service has this long to start; wandb takes half of it and then goes on offline.
        finish_seconds: The run's end waits at most this long for the service.
        queue: Calls that may wait for the service; further ones are dropped.
        settings: The tracker's own settings.
    """

    name: str = "none"
    mode: str | None = None
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    tables: bool = True
    start_seconds: float = 60.0
    finish_seconds: float = 10.0
    queue: int = 1000
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class ArchitectureConfig:
    """Module paths for an architecture that is not known: the fields of
    :class:`editbench.model.architectures.Architecture`.
    """

    decoder: str | None = None
    layers: str | None = None
    attention: str | None = None
    mlp_in: list[str] | None = None
    mlp_out: str | None = None
    head: str | None = None


@dataclass
class ModelConfig:
    """Which model, and what editors may use with it.

    Attributes:
        path: "pocket", "pocket-llama", "pocket-gpt2", a folder, or a hub id.
        name: Name in results; the last part of the path by default.
        dtype: "float32", "float64", "bfloat16" or "float16".
        device: "auto", "cpu", "cuda:0", … or "spread" over all GPUs.
        attention: "sdpa" or "eager"; null is the architecture's own choice.
        revision: Hub revision.
        architecture: Module paths, for an architecture that is not known; null leaves the known one.
        texts: Plain text for covariance: "pocket" (the embedded world's), "self" (sampled from the unedited
            model with the run's seed), or a file (rows with ``text``, or one text a line).
        texts_tokens: Tokens to sample where texts is "self".
        stages: Safetensors file with covariance by layer number; null computes them from texts.
        templates: Context templates with one "{}" each; null samples them from the model.
    """

    path: str = MISSING
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


@dataclass
class StreamConfig:
    """The stream: records, order, batches, evaluation points.

    Attributes:
        edits: Number of edits; null edits all records.
        batch_size: Edits written at once.
        seed: Seed of the sample and of the order.
        sample: "first" takes the first ``edits`` records of the file, "random" samples from all.
        order: "shuffled", or "file" for the order of the file.
        evaluate_at: Numbers of edits after which the edits so far are evaluated, rounded up to ends of batches: a list,
            "powers" (1, 10, 100, …) or "every:K" (K, 2 K, 3 K, …), as far as there are edits.
    """

    edits: int | None = 50
    batch_size: int = 1
    seed: int = 0
    sample: str = "first"
    order: str = "shuffled"
    evaluate_at: Any = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.evaluate_at, str):
            if not re.fullmatch(r"powers|every:[1-9][0-9]*", self.evaluate_at):
                raise ValueError(
                    f"stream.evaluate_at is {self.evaluate_at!r}; it must be a list of counts, 'powers' or 'every:K'"
                )
        else:
            for count in self.evaluate_at:
                whole_number(1, **{"stream.evaluate_at": count})
        if self.edits is not None:
            whole_number(1, **{"stream.edits": self.edits})
        whole_number(1, **{"stream.batch_size": self.batch_size})
        whole_number(0, **{"stream.seed": self.seed})
        one_of(("first", "random"), **{"stream.sample": self.sample})
        one_of(("shuffled", "file"), **{"stream.order": self.order})


@dataclass
class AbilityConfig:
    """General ability, measured on the unedited model, at ``stream.evaluate_at`` and at the end.

    Attributes:
        tasks: "pocket" (the embedded world's own questions) or names of lm-eval's tasks, groups and tags; none by
            default. ``ability=nse`` names the six of the NSE paper.
        limit: lm-eval: the first so many documents of each task; null: all.
        num_fewshot: lm-eval: solved examples before each question; null: what the task says, or else none.
        include_path: lm-eval: a folder with task files of one's own.
        batch_size: lm-eval: rows at once in tasks that generate; given answers go by ``protocol.tokens_per_batch``.
    """

    tasks: list[str] = field(default_factory=list)
    limit: int | None = None
    num_fewshot: int | None = None
    include_path: str | None = None
    batch_size: int = 8


@dataclass
class ProtocolConfig:
    """What is measured, and when.

    Attributes:
        name: Name in results.
        metrics: Metrics to apply (``editbench list metrics``).
        stages: "immediate" (a batch's own records right after it), "final" (all records at the end).
        retention_sample: At a checkpoint, this many of the records so far are scored, drawn with the seed; null: all.
        final_first: By dataset name, or "default": at the end only this many of the stream's first edits are scored;
            null: all.
        headline: By dataset name, or "default": which measure stands for reliability, generality and locality.
        tokens_per_batch: Padded tokens that evaluation runs at once; null suits the device.
        max_tokens: Longest text scored for perplexity, in tokens.
        max_new_tokens: Tokens generated for an answer; null: the target's, and 5 more, at most 128.
        beams: Beams of that search; 1 is greedy.
        repetition_penalty: Penalty on tokens that were there before; 1 is none.
        data: By dataset name: settings of the dataset that are part of the protocol ("zsre: {target: answers}").
        ability: Tests of what the model can do besides.
    """

    name: str = "default"
    metrics: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=lambda: ["immediate", "final"])
    retention_sample: int | None = None
    final_first: dict[str, int | None] = field(default_factory=lambda: {"default": None})
    headline: dict[str, Any] = field(default_factory=dict)
    tokens_per_batch: int | None = None
    max_tokens: int = 512
    max_new_tokens: int | None = None
    beams: int = 1
    repetition_penalty: float = 1.0
    data: dict[str, Any] = field(default_factory=dict)
    ability: AbilityConfig = field(default_factory=AbilityConfig)


@dataclass
class ResultsConfig:
    """Where a run's files go.

    Attributes:
        dir: Folder of all runs.
        name: The run's folder; made from the configuration by default, so that the same command finds its run again.
        rerun: Do a finished run again from the start.
    """

    dir: str = "results"
    name: str | None = None
    rerun: bool = False


@dataclass
class PrecomputeConfig:
    """What ``editbench precompute`` computes ahead of the runs that share a cache; ``editbench run`` takes no notice.

    Attributes:
        find_values: The stream's values too, for methods whose values do not depend on earlier edits (NSE); else second
            stages alone.
        part: Which part of the stream's values, from 0.
        parts: How many parts there are: sweep over ``part`` to compute them side by side.
    """

    find_values: bool = True
    part: int = 0
    parts: int = 1


@dataclass
class RunConfig:
    """Everything that ``editbench run`` needs. ``method`` and ``dataset`` hold a name and their own settings.

    ``constants`` is the name of the set of constants that the method's settings start from: "tuned", "published", or
    another of ``conf/constants/``.
    """

    method: Any = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: Any = MISSING
    stream: StreamConfig = field(default_factory=StreamConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    results: ResultsConfig = field(default_factory=ResultsConfig)
    precompute: PrecomputeConfig = field(default_factory=PrecomputeConfig)
    hparams: str = "tuned"
    cache: str = MISSING


NOT_DECIDING = ("results", "cache", "tracker", "ahead")
"""Parts of the configuration that do not change a run's numbers."""


def settings_of(node: Any) -> tuple[str, dict[str, Any]]:
    """Name and own settings of a ``method`` or ``dataset`` node."""
    plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    assert isinstance(plain, dict)
    values = {str(k): v for k, v in plain.items()}
    return str(values.pop("name")), values


def run_name(config: Any, model_name: str) -> str:
    """A folder name that says what the run is, and ends in a digest of everything that decides its numbers."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    decides = {k: v for k, v in plain.items() if k not in NOT_DECIDING}
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:8]
    stream = config.stream
    parts = [
        config.dataset.name,
        model_name,
        config.method.name,
        f"e{stream.edits if stream.edits is not None else 'all'}",
        f"b{stream.batch_size}",
        f"s{stream.seed}",
        digest,
    ]
    return "-".join("".join(c if c.isalnum() or c in "._" else "_" for c in str(p)) for p in parts)


def folder_of(config: Any) -> Path:
    """Where the run of this configuration is, or will be."""
    return Path(config.results.dir) / (config.results.name or run_name(config, model_name(config)))


def model_name(config: Any) -> str:
    """The model's name in results."""
    return str(config.model.name or Path(str(config.model.path)).name)

"""Where a search starts: the run that every trial does, the settings that stay, and the untuned ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from editbench import compose, datasets, registry
from editbench.config import AbilityConfig, MethodConfig, ResultsConfig, RunConfig, TrackerConfig
from editbench.datasets.disjoint import record_hashes
from editbench.datasets.splits import TUNE
from editbench.evaluation.questions import FREE_TEXT
from editbench.model import language_model
from editbench.model.chat_template import format_of
from editbench.records import REWRITE
from editbench.results.schema import HEADLINES
from editbench.search_space import Space, space_of
from editbench.stream import Stream

ORIGIN = "tuning"  # of the hparams of a trial
PUBLISHED = "published"  # origin of the hparams before a search
OBJECTIVE = "score_penalised"
"""Column of a run that is maximised: the harmonic mean of reliability and generality, each times the share of records
that could be edited, and locality, after the last edit."""


@dataclass(frozen=True)
class Start:
    """What all trials of a search share."""

    config: RunConfig  # the run of a trial, but for the method's settings
    space: Mapping[str, Space]  # of the settings that are sought, by field
    fixed: Mapping[str, Any]  # the other settings that are not the dataclass's defaults, as in YAML
    untuned: Mapping[str, Any]  # values of the sought settings before any search
    n_layers: int
    records: Sequence[str]  # hashes of the records that a trial edits
    model_hash: str

    @property
    def method(self) -> str:
        """The method's name."""
        return self.config.method.name

    def run(self, values: Mapping[str, Any], folder: ResultsConfig) -> RunConfig:
        """The run with these values of the sought settings; a ValueError if the method refuses them."""
        settings = registry.make_config(
            self.method, registry.load_method(self.method).config_class, {**self.fixed, **values}
        )
        return dataclasses.replace(self.config, method=MethodConfig(self.method, ORIGIN, settings), results=folder)


def trial_config(overrides: Sequence[str], seed: int) -> RunConfig:
    """The run of a trial, with the settings that the method has now. A ValueError says what is wrong."""
    if compose.given(overrides)[1].get("hparams") == registry.TUNED:
        raise ValueError("hparams=tuned is what the tuner writes; start from hparams=published, by_hand or none")
    if any(o.startswith("dataset.split=") and o != f"dataset.split={TUNE}" for o in overrides):
        raise ValueError(f"a tuner edits the records of dataset.split={TUNE}, and no others; leave dataset.split out")
    if any(o.startswith("stream.seed=") for o in overrides):
        raise ValueError("the seed of the stream is that of the search: give --seed instead of stream.seed")
    return _plain(compose.compose([*overrides, f"dataset.split={TUNE}", f"stream.seed={seed}"]))


def start(config: RunConfig, overrides: Sequence[str]) -> Start:
    """Load the records and, once, the model of a search; ``config`` is of :func:`trial_config`.

    Settings that ``overrides`` name are not sought. The others start from the published ones for the model, if there
    are any, or from the set that ``hparams=NAME`` names; layers from the same share of the depth.
    """
    given, choices = compose.given(overrides)
    method, cls = config.method.name, registry.load_method(config.method.name).config_class
    space = {name: one for name, one in space_of(cls).items() if name not in given}
    if not space:
        raise ValueError(f"method {method} has no setting to tune, beside those that were given")
    base = _base(method, choices, config)
    records = datasets.from_config(config.dataset, format_of(config.dataset, config.model))
    stream = Stream.build(records, config.stream)
    _check_headline(config.protocol.headline, stream)
    lm = language_model.load_model(config.model)
    untuned = _untuned(cls, base, space, lm.n_layers)
    fixed = {name: value for name, value in {**base, **given}.items() if name not in space}
    hashes = record_hashes(stream.records, records.prompt_format)
    return Start(config, space, fixed, untuned, lm.n_layers, hashes, lm.fingerprint)


def _base(method: str, choices: Mapping[str, str], config: RunConfig) -> dict[str, Any]:
    """Settings before the search, as in YAML: published ones, or those of ``hparams=NAME``; none that were tuned."""
    wanted, model = choices.get("hparams"), choices.get("model", "pocket")
    _, files = registry.find_hparams(method, model, config.dataset.name, wanted or PUBLISHED)
    kept = [f for f in files if f.parent.name == PUBLISHED or (wanted is not None and f.parent.name != registry.TUNED)]
    plain: Any = OmegaConf.to_container(OmegaConf.merge({}, *map(OmegaConf.load, kept)), resolve=False)
    return dict(plain)


def _check_headline(headline: Mapping[str, str], stream: Stream) -> None:
    """Refuse records that lack the questions of a headline measure: there would be no objective."""
    kinds = {REWRITE, *(probe.kind for record in stream.records for probe in record.probes)}
    kinds |= {FREE_TEXT} if any(record.free_text for record in stream.records) else set()
    for name in HEADLINES:
        if headline.get(name, "").partition(".")[0] not in kinds:
            raise ValueError(
                f"there is no score to tune by: no record has a question of {name} ({headline.get(name, 'not set')}); "
                "add such questions, or choose another protocol"
            )


def _untuned(cls: type, base: Mapping[str, Any], space: Mapping[str, Space], n_layers: int) -> dict[str, Any]:
    defaults = cls()
    return {
        name: base[name] if name in base else one.start(getattr(defaults, name), n_layers)
        for name, one in space.items()
    }


def _plain(config: RunConfig) -> RunConfig:
    """The run with nothing but what the objective needs."""
    metrics = sorted({measure.partition(".")[2] for measure in config.protocol.headline.values()})
    protocol = dataclasses.replace(
        config.protocol, stages=["final"], metrics=metrics, final_first=None, ability=AbilityConfig()
    )
    stream = dataclasses.replace(config.stream, evaluate_at=(), stop_when=())
    return dataclasses.replace(config, protocol=protocol, stream=stream, tracker=TrackerConfig())

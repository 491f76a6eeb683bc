"""From a configuration to a finished run: makes the parts, checks early, hands over to the session."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from editbench import datasets, registry
from editbench import provenance as identity
from editbench.compose import check_hparams
from editbench.config import NOT_DECIDING, StreamConfig, folder_of, model_name, settings_of
from editbench.evaluation.protocol import _check_kinds, _check_protocol, final_first_of, headline_of
from editbench.model import language_model
from editbench.progress import phase
from editbench.resources import LazyTexts
from editbench.results import RunFolder
from editbench.results.identity import differences, identify, listed
from editbench.results.schema import SCHEMA
from editbench.stream import Stream
from editbench.tracking import RunObserver, open_tracker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from editbench.costs import CachedCosts
    from editbench.editor import Editor
    from editbench.evaluation import Evaluator
    from editbench.evaluation.general_ability.base import AbilityTest
    from editbench.model.language_model import LanguageModel
    from editbench.records import RecordSet


_log = logging.getLogger(__name__)


class RunOutcome:
    """What became of a run: its folder, and whether it had been done before."""

    def __init__(self, folder: Path, already_done: bool) -> None:
        self.folder, self.already_done = folder, already_done


@dataclass(frozen=True)
class Precomputed:
    """For how many edits :func:`precompute` found values (None: the method needs none), and its seconds."""

    edits: int | None
    seconds: float


def run(config: Any) -> RunOutcome:
    """Do one run, or take up one that was stopped, or find that it is done.

    Args:
        config: A composed :class:`editbench.config.RunConfig`.

    Raises:
        ValueError: A name, setting, record or file is wrong; nothing heavy was loaded for it.
        FileNotFoundError: No model at the path.
        EditError: An edit failed in a way that concerns no single record.
    """
    method, records, stream = _load(config)
    open_tracker(config.tracker)  # its name and package are checked before anything heavy is loaded
    ability = _ability_tests(config.protocol, config.stream.seed)
    store, done = _open_store(config)
    data = {"dataset": _describe(config, records), "stream": _stream_facts(stream, records)}
    if done:
        _refuse_another(store, data, config, method[1])
        return RunOutcome(store.path, already_done=True)
    with store:
        try:
            _refuse_another(store, data, config, method[1])
            _run_in(store, config, method, records, stream, ability)
        except KeyboardInterrupt:
            store.set_status("interrupted", "stopped by the user; the same command goes on")
            raise
        except Exception as error:
            store.set_status("failed", f"{type(error).__name__}: {error}")
            raise
    return RunOutcome(store.path, already_done=False)


def precompute(config: Any) -> Precomputed:
    """Find what a run of this configuration needs before its first edit, and keep it in the cache.

    That is covariance, and for methods whose values do not depend on earlier edits (NSE) the values of
    ``precompute.part`` of ``precompute.parts`` of the stream.

    Args:
        config: A composed :class:`editbench.config.RunConfig`.

    Raises:
        ValueError: A name, setting, record or file is wrong; nothing heavy was loaded for it.
        FileNotFoundError: No model at the path.
    """
    from editbench.editor import Editor

    precompute, began = config.precompute, time.perf_counter()
    if precompute.parts < 1:
        raise ValueError(f"precompute.parts is {precompute.parts}; it must be at least 1")
    if not 0 <= precompute.part < precompute.parts:
        raise ValueError(
            f"precompute.part is {precompute.part}; it must be from 0 to precompute.parts - 1, {precompute.parts - 1}"
        )
    method, records, stream = _load(config)
    if registry.load_method(method[0]).prepare is Editor.prepare:
        return Precomputed(None, time.perf_counter() - began)
    phase("loading")
    lm = language_model.load_model(config.model, name=model_name(config))
    requests = (
        [record.request for record in stream.records][precompute.part :: precompute.parts]
        if precompute.find_values
        else []
    )
    phase("preparing")
    _make_editor(lm, method, config, records, None).prepare(requests)
    return Precomputed(len(requests), time.perf_counter() - began)


def _load(config: Any) -> tuple[tuple[str, Any], RecordSet, Stream]:
    """The method with its settings, the records, and the stream that is made of them."""
    check_hparams(config)
    method, method_settings = settings_of(config.method)
    method_config = registry.make_config(method, registry.load_method(method).config_class, method_settings)
    dataset, dataset_settings = settings_of(config.dataset)
    dataset_settings.update(_settings_of_protocol(config.protocol, dataset, dataset_settings))
    if config.stream.sample == "first" and dataset_settings["limit"] is None:
        dataset_settings["limit"] = config.stream.edits  # what lies beyond is not needed, and need not be in order
    _check_protocol(config.protocol, dataset)
    records = datasets.load(dataset, dataset_settings.pop("path"), **dataset_settings)
    if records.skipped:
        first = records.skipped[0]
        _log.warning("%d of %s left out; the first, %s: %s", len(records.skipped), dataset, first.where, first.reason)
    stream = Stream.build(records, StreamConfig(**_plain(config.stream)))
    _check_kinds(headline_of(config.protocol, dataset), stream)
    return (method, method_config), records, stream


def _run_in(
    store: RunFolder,
    config: Any,
    method: tuple[str, Any],
    records: RecordSet,
    stream: Stream,
    ability: Sequence[AbilityTest],
) -> None:
    from editbench.costs import EVALUATION, Meter
    from editbench.editing_loop import EditingLoop
    from editbench.evaluation.metrics import ranges
    from editbench.results.summary import summarise

    meter = Meter()
    phase("loading")
    for test in ability:
        test.load()
    lm = language_model.load_model(config.model, name=model_name(config))
    protocol = config.protocol
    facts = _provenance(config, method, lm, records, stream, ability)
    _refuse_changes(store, {"model": facts["model"]})
    store.add_provenance(facts)
    editor = _make_editor(lm, method, config, records, store.ledger, meter.costs)
    phase("unedited model")
    with meter.stage(EVALUATION):
        evaluator = _make_evaluator(lm, config, records, stream, ability, meter.costs)
    headline = headline_of(protocol, records.name)
    settings: Any = OmegaConf.to_object(config.tracker)
    with RunObserver.of(settings, store, _plain(config), headline, meter.peak_bytes) as observer:
        sampling = {
            "retention_sample": protocol.retention_sample,
            "final_first": final_first_of(protocol, records.name),
            "seed": config.stream.seed,
        }
        session = EditingLoop(
            stream, editor, evaluator, store, protocol.stages, **sampling, observer=observer, meter=meter
        )
        session.run()
        summary, costs = summarise(store.scores(), headline, ranges=ranges()), session.costs()
        store.set_status("done", summary=summary, costs=costs)
        observer.done(summary, costs)


def _provenance(
    config: Any,
    method: tuple[str, Any],
    lm: LanguageModel,
    records: RecordSet,
    stream: Stream,
    ability: Sequence[AbilityTest],
) -> dict[str, Any]:
    """What a run was made with, as its folder keeps it."""
    from editbench.provenance import environment

    protocol = config.protocol
    inputs = identity.inputs(config, method[1])
    return {
        **environment(),
        **identify(identity.parts(config, method, lm, records, stream, ability, inputs)),
        "versions": identity.versions(protocol, method[0]),
        "inputs": inputs,
        "model": {"name": lm.name, "path": str(config.model.path), "hash": lm.fingerprint},
        "dataset": _describe(config, records),
        "stream": {**_stream_facts(stream, records), "seed": config.stream.seed},
        "method": {"name": method[0], "hparams": config.hparams, "config": asdict(method[1])},
        "protocol": {
            **_plain(protocol),
            "headline": headline_of(protocol, records.name),
            "final_first": final_first_of(protocol, records.name),
        },
        "ability": {name: fact for test in ability for name, fact in test.about().items()},
        "seed": config.stream.seed,
    }


def _refuse_another(store: RunFolder, facts: Mapping[str, Mapping[str, Any]], config: Any, method: Any) -> None:
    """A run that is found again, done or half done, must be the one that its command would now make.

    Raises:
        ValueError: Other data, other files behind a path, or other formulas. Nothing heavy was loaded for it.
    """
    provenance = store.info["provenance"]
    if "model" not in provenance:  # it was stopped before it had begun
        return
    remedy = "do the run again with results.rerun=true, or give it a results.name of its own"
    if (schema := provenance.get("schema", 1)) != SCHEMA:
        raise ValueError(f"{store.path}: it was made with schema {schema}, and formulas of {SCHEMA} differ; {remedy}")
    _refuse_changes(store, facts)
    if changed := differences(provenance["inputs"], identity.inputs(config, method)):
        raise ValueError(
            f"{store.path}: files that the run read have changed since it was started: {listed(changed)}; {remedy}"
        )
    if changed := differences(provenance["versions"], identity.versions(config.protocol, config.method.name)):
        raise ValueError(f"{store.path}: formulas have changed since the run was started: {listed(changed)}; {remedy}")


def _refuse_changes(store: RunFolder, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """A run that is taken up must go on with the data and model that it was started with.

    Raises:
        ValueError: What ``facts`` describe has another hash than the run's.
    """
    for what, now in facts.items():
        before = store.info["provenance"].get(what, {}).get("hash")
        if before is not None and before != now["hash"]:
            raise ValueError(
                f"{store.path}: the {what} has changed since this run was started (hash {before[:12]}, now "
                f"{now['hash'][:12]}); do the run again with results.rerun=true, or give it a results.name of its own"
            )


def _open_store(config: Any) -> tuple[RunFolder, bool]:
    """The run's folder, new or taken up again, and whether it is already done."""
    path = folder_of(config)
    decides = OmegaConf.masked_copy(config, [key for key in config if key not in NOT_DECIDING])
    text = OmegaConf.to_yaml(decides, resolve=True)
    if not (path / "run.json").exists():
        return RunFolder.create(path.parent, path.name, text), False
    store = RunFolder.open(path)
    if config.results.rerun:
        store.close()
        shutil.rmtree(path)
        return RunFolder.create(path.parent, path.name, text), False
    if (path / "config.yaml").read_text(encoding="utf-8") != text and config.results.name:
        store.close()
        raise ValueError(f"{path} holds a run with another configuration; choose another results.name")
    if store.info["status"] == "done":
        store.close()
        return store, True
    store.set_status("running")
    return store, False


def _make_editor(
    lm: LanguageModel,
    method: tuple[str, Any],
    config: Any,
    records: RecordSet,
    ledger: Path | None,
    costs: CachedCosts | None = None,
) -> Editor[Any]:
    from editbench.ledger import Ledger
    from editbench.resources import Resources

    model = config.model
    resources = Resources(
        texts=LazyTexts(lm, str(model.texts), model.texts_tokens, config.stream.seed),
        templates=list(model.templates) if model.templates is not None else None,
        covariance=model.covariance,
        cache=Path(config.cache),
        seed=config.stream.seed,
        apply_format=records.prompt_format.apply,
        **({"costs": costs} if costs is not None else {}),
    )
    return registry.load_method(method[0])(lm, Ledger(lm, ledger), method[1], resources)


def _make_evaluator(
    lm: LanguageModel,
    config: Any,
    records: RecordSet,
    stream: Stream,
    ability: Sequence[AbilityTest],
    costs: CachedCosts,
) -> Evaluator:
    from editbench.evaluation import Evaluator, Generation, ask_unedited, get_metric
    from editbench.evaluation.questions import question_of

    protocol = config.protocol
    seed = config.stream.seed
    generation = Generation(protocol.max_new_tokens, protocol.beams, protocol.repetition_penalty, seed=seed)
    generates = any(get_metric(name).generates for name in protocol.metrics)
    unrelated = [question_of(probe) for probe in records.unrelated]
    limits = {"max_tokens": protocol.max_tokens, "tokens_per_batch": protocol.tokens_per_batch}
    unedited = ask_unedited(
        lm,
        stream.records,
        records.texts,
        unrelated=unrelated,
        model_fingerprint=lm.fingerprint,
        generation=generation if generates else None,
        cache=Path(config.cache) / "unedited",
        costs=costs,
        **limits,
    )
    return Evaluator(
        lm,
        unedited=unedited,
        metrics=list(protocol.metrics),
        texts=records.texts,
        unrelated=unrelated,
        ability=ability,
        sentences=records.name == "hallucination",
        left_out=stream.left_out,
        generation=generation,
        references=[text for record in records.records if record.free_text for text in record.free_text.references],
        **limits,
    )


def _ability_tests(protocol: Any, seed: int) -> list[AbilityTest]:
    """The tests of general ability that the protocol names, not yet loaded; only what is asked for is imported.

    Raises:
        ValueError: Unknown test, setting out of range, or lm-eval is not installed.
    """
    settings = _plain(protocol.ability)
    names = list(dict.fromkeys(settings.pop("tasks")))
    tests: list[AbilityTest] = []
    if not names:
        return tests
    from editbench.evaluation.general_ability.base import POCKET, lm_eval_tasks

    if POCKET in names:
        from editbench.evaluation.general_ability.pocket_world import PocketAbility

        tests.append(PocketAbility(tokens_per_batch=protocol.tokens_per_batch))
    if others := [name for name in names if name != POCKET]:
        tests.append(lm_eval_tasks(others, seed=seed, tokens_per_batch=protocol.tokens_per_batch, **settings))
    return tests


def _settings_of_protocol(protocol: Any, dataset: str, given: dict[str, Any]) -> dict[str, Any]:
    """The dataset's settings that belong to the protocol.

    Raises:
        ValueError: Another value than the protocol's and the default was asked for.
    """
    wanted = _plain(protocol.data).get(dataset) or {}
    defaults = {f.name: f.default for f in fields(datasets.find(dataset).settings)}
    for name, value in wanted.items():
        if name in given and given[name] not in (value, defaults.get(name)):
            raise ValueError(
                f"protocol={protocol.name} reads {dataset} with {name}={value!r}, but dataset.{name}={given[name]!r} "
                f"was asked for; leave it out, or change it with protocol.data.{dataset}.{name}"
            )
    return wanted


def _plain(node: Any) -> dict[str, Any]:
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(k): v for k, v in values.items()}


def _stream_facts(stream: Stream, records: RecordSet) -> dict[str, Any]:
    return {
        "hash": stream.fingerprint,
        "edits": len(stream),
        "batch_size": stream.batch_size,
        "conflicts": [list(pair) for pair in stream.conflicts],
        "records_in_dataset": len(records),
    }


def _describe(config: Any, records: RecordSet) -> dict[str, Any]:
    return {
        "name": records.name,
        "path": str(config.dataset.path),
        "hash": records.fingerprint,
        "skipped": [asdict(s) for s in records.skipped],
    }

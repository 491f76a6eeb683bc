"""One run, from its config to its summary: makes the parts, checks early, and hands over to the editing loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from editbench import compose, datasets, provenance, registry
from editbench.config import RunConfig
from editbench.continuation import runs_to_continue, take_over
from editbench.costs import EVALUATION, Meter
from editbench.datasets import disjoint, splits
from editbench.datasets.true_facts import true_facts, with_subjects
from editbench.editing_loop import EditingLoop
from editbench.evaluation.evaluator import Evaluator
from editbench.evaluation.general_ability import ability_tests
from editbench.evaluation.judge.endpoint import check_key
from editbench.evaluation.judge.verdicts import judge_line, open_judge
from editbench.evaluation.metrics import facts as metric_facts
from editbench.evaluation.questions import check_headline, check_questions
from editbench.ledger import Ledger
from editbench.locate_then_edit.prompts import subject_row
from editbench.model import language_model
from editbench.model.chat_template import format_of
from editbench.model_places import model_place
from editbench.progress import phase
from editbench.records import RecordSet
from editbench.resources import Resources
from editbench.results import RunFolder
from editbench.results.leaderboard import read_row
from editbench.results.run_folder import is_run, parts_of_run
from editbench.results.summary import summarise
from editbench.stream import Stream
from editbench.threads import restored_threads, set_threads
from editbench.tracking import RunObserver, TrackedRun, open_tracker

if TYPE_CHECKING:
    from editbench.config import DatasetConfig, ModelConfig

_log = logging.getLogger(__name__)
SHOWN = 8  # settings that a message lists
_REMEDY = "do the run again with results.rerun=true, or give it a results.name of its own"


class OtherRunError(ValueError):
    """The folder's run was made with other data, files or formulas than the command's."""


@dataclass(frozen=True)
class RunOutcome:
    """Folder of a run, and whether the run was done before."""

    folder: Path
    already_done: bool


@dataclass(frozen=True)
class Precomputed:
    """Number of edits for which :func:`precompute` found values (None: the method needs none), and its seconds."""

    edits: int | None
    seconds: float


def run(config: Sequence[str] | RunConfig, cores: int | None = None) -> RunOutcome:
    """Do one run, resume one that was stopped, or find that it is done.

    ``config`` may be overrides as on the command line. A wrong name, setting, record or file is a ValueError before the
    model is loaded. ``cores`` bound the threads of a new run; None: all that this process may use.
    """
    config = config if isinstance(config, RunConfig) else compose.compose(config)
    records, stream = load_records(config)
    tracker = open_tracker(config.tracker)  # now: its name and package are checked before the model is loaded
    protocol, seed = config.protocol, config.stream.seed
    ability = ability_tests(protocol, seed, partial(true_facts, config.dataset, records))
    untouched = with_subjects(config.dataset, records, protocol.hidden_shift)
    folder, done = _open_folder(config, records, stream)
    facts = provenance.of_config(config, records, stream)
    if done:
        _refuse_another(folder, facts)
        return RunOutcome(folder.path, already_done=True)
    if judged := judge_line(protocol, stream, len(records.unrelated), seed):
        _log.warning("note: %s", judged)
    with folder, _status_at_the_end(folder), restored_threads():
        _refuse_another(folder, facts)
        meter = Meter()
        phase("loading")
        for test in ability:
            test.load()
        lm = language_model.load_model(config.model)
        judge = open_judge(protocol.judge, config.cache, meter.costs, records.prompt_format.plain)
        set_threads(lm.model, cores, config.threads, folder.info["provenance"].get("threads"))
        facts |= provenance.of_model(config, lm, records, stream, ability)
        if why := provenance.other_hash(folder.info["provenance"], facts, "model"):
            raise OtherRunError(f"{folder.path}: {why}; {_REMEDY}")
        metrics = metric_facts(protocol.metrics, protocol.ability.tasks)
        folder.add_provenance(facts, metrics)
        own: Any = {"model": config.model, "dataset": config.dataset, "cache": config.cache, "seed": seed}
        resources = build_resources(lm, records, stream, **own, meter=meter)
        method = registry.load_method(config.method.name)
        editor = method(lm, Ledger(lm, folder.ledger), config.method.settings, resources)
        if config.model.edited_dtype is not None and not editor.edited_weights():
            _log.warning("note: %s adds nothing to weights: model.edited_dtype changes nothing", config.method.name)
        phase("unedited model")
        with meter.stage(EVALUATION):
            given: Any = {"cache": config.cache, "seed": seed, "costs": meter.costs, "ability": ability, "judge": judge}
            rows = [subject_row(lm, request) for request in untouched]
            evaluator = Evaluator.build(lm, records, stream, protocol, untouched=rows, **given)
        tracked = TrackedRun.of(folder.path, folder.info, config.as_dict(), config.tracker.group, config.tracker.tags)
        with RunObserver(tracker, protocol.headline, meter.peak_bytes, config.tracker.tables) as observer:
            observer.start(tracked)
            stop_when = config.stream.stop_when
            loop = EditingLoop(stream, editor, evaluator, folder, protocol, seed, observer, meter, stop_when)
            loop.run()
            ranges = {name: fact["range"] for name, fact in metrics.items() if fact["range"] is not None}
            summary, costs = summarise(folder.scores(), protocol.headline, ranges=ranges), loop.costs()
            summary["collapsed"] = asdict(loop.collapse) if loop.collapse is not None else None
            folder.set_status("done", summary=summary, costs=costs)
            observer.done(summary, costs, partial(read_row, folder.path))
    return RunOutcome(folder.path, already_done=False)


def build_resources(
    lm: language_model.LanguageModel,
    records: RecordSet,
    stream: Stream,
    *,
    model: ModelConfig,
    dataset: DatasetConfig,
    cache: Path,
    seed: int,
    meter: Meter,
) -> Resources:
    """What an editor may use in a run, besides model and requests."""
    scored = disjoint.scored_texts(records)
    training = partial(datasets.training_records, dataset, records.chat_format, stream.records)
    return Resources.build(lm, model, cache, seed, records.prompt_format, meter.costs, scored, training, dataset.name)


def precompute(config: RunConfig, cores: int | None = None) -> Precomputed:
    """Fill the cache with what a run of this config needs before its first edit.

    That is covariance, and for methods whose values do not depend on earlier edits (NSE) the values of
    ``precompute.part`` of ``precompute.parts`` of the stream. ``cores`` as for :func:`run`.
    """
    begun, part = time.perf_counter(), config.precompute
    records, stream = load_records(config)
    method = registry.load_method(config.method.name)
    if not method.prepares(config.method.settings):
        return Precomputed(None, time.perf_counter() - begun)
    phase("loading")
    lm = language_model.load_model(config.model)
    requests = [record.request for record in stream.records][part.part :: part.parts] if part.find_values else []
    phase("preparing")
    with restored_threads():
        set_threads(lm.model, cores, config.threads)
        own: Any = {"model": config.model, "dataset": config.dataset, "cache": config.cache}
        resources = build_resources(lm, records, stream, **own, seed=config.stream.seed, meter=Meter())
        method(lm, Ledger(lm), config.method.settings, resources).prepare(requests)
    return Precomputed(len(requests), time.perf_counter() - begun)


def load_records(config: RunConfig) -> tuple[RecordSet, Stream]:
    """Records and stream of a run whose headline and questions fit."""
    check_headline(config.protocol.headline, config.protocol.metrics)
    check_key(config.protocol.judge)
    model_place(config.model.path)  # a model that must be fetched first is missed before anything is done
    records = datasets.from_config(config.dataset, format_of(config.dataset, config.model))
    if records.skipped:
        first, count = records.skipped[0], len(records.skipped)
        _log.warning("%d of %s left out; the first, %s: %s", count, records.name, first.where, first.reason)
    if records.ignored:
        counted = ", ".join(f"{name} of {count} records" for name, count in records.ignored.items())
        _log.warning("%s: ignored: %s; docs/data.md has the fields that are read", records.name, counted)
    stream = Stream.build(records, config.stream)
    wanted, found = int(len(stream) * config.stream.revisions), len(stream.revisions)
    if found < wanted:
        _log.warning("%d of %d revisions: the other edits had no other target of their relation to take", found, wanted)
    check_questions(config.protocol.headline, stream)
    _refuse_crossings(config, records, stream)
    return records, stream


def _refuse_crossings(config: RunConfig, records: RecordSet, stream: Stream) -> None:
    """Refuse a stream on which the settings were tuned, and prompts that a method learns from and is tested by."""
    method = config.method
    for file in method.tuning:
        found = disjoint.tuned_on(stream.records, records.prompt_format, registry.read_tuning(file).records)
        if found and config.dataset.split != splits.ALL:
            raise disjoint.CrossingError(
                f"hparams={method.hparams}: {method.name} was tuned on {len(found)} records of the stream, the first "
                f"{found[0]!r} ({file.name}); edit others with dataset.split=stream, or mark the run with "
                "dataset.split=all"
            )
    tested = {**disjoint.tested_prompts(records, stream.records), **disjoint.scored_texts(records)}
    for one in fields(method.settings):
        if one.metadata.get("learnt"):
            disjoint.keep_apart(f"method.{one.name}", getattr(method.settings, one.name), tested)


def _open_folder(config: RunConfig, records: RecordSet, stream: Stream) -> tuple[RunFolder, bool]:
    """The run's folder, new, resumed, or going on from a shorter run's, and whether the run is already done."""
    path = config.folder
    text = yaml.safe_dump(config.deciding(), sort_keys=False, allow_unicode=True)
    if config.results.rerun and (is_run(path) or parts_of_run(path)):
        RunFolder.remove(path)
    if not (path / "run.json").exists():
        found = runs_to_continue(config.results, path, text)
        if not (found and take_over(found, config, text, records, stream)):
            return RunFolder.create(path.parent, path.name, text), False
    folder = RunFolder.open(path)
    if config.results.name and (before := (path / "config.yaml").read_text(encoding="utf-8")) != text:
        folder.close()
        differ = list(_differences(yaml.safe_load(before), yaml.safe_load(text)))
        named = "; ".join([*differ[:SHOWN], *([f"and {len(differ) - SHOWN} more"] if len(differ) > SHOWN else [])])
        raise ValueError(f"{path} holds a run with another configuration ({named}); choose another results.name")
    if folder.info["status"] == "done":
        folder.close()
        return folder, True
    folder.set_status("running")
    return folder, False


def _differences(before: Any, now: Any, key: str = "") -> Iterator[str]:
    """Sentences on the settings in which two configs differ, with both values: "stream.edits is 2 there, 3 here"."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            below = f"{key}.{name}" if key else str(name)
            yield from _differences(before.get(name, "not set"), now.get(name, "not set"), below)
    elif before != now:
        there, here = ("null" if value is None else value for value in (before, now))
        yield f"{key} is {there} there, {here} here"


@contextmanager
def _status_at_the_end(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        folder.set_status("interrupted", "stopped by the user; the same command goes on")
        raise
    except Exception as error:
        folder.set_status("failed", f"{type(error).__name__}: {error}")
        raise


def _refuse_another(folder: RunFolder, facts: Mapping[str, Any]) -> None:
    """Refuse a run, done or not, that was made with other data, files or formulas than the command's."""
    before = folder.info["provenance"]
    if "model" in before and (why := provenance.changed(before, facts)):  # else it was stopped before it had begun
        raise OtherRunError(f"{folder.path}: {why}; {_REMEDY}")

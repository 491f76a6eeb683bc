"""The parts of a run, made again from its config: records, base model, evaluator, editors on copies of its ledger."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from editbench import datasets, fetched, plugins, provenance
from editbench.config import RunConfig
from editbench.costs import Meter
from editbench.datasets.true_facts import with_subjects
from editbench.editing_loop import EditingLoop
from editbench.editor import edit_possible
from editbench.evaluation.evaluator import Evaluator
from editbench.files import ResultsError, read_tensors
from editbench.kept_config import of_kept
from editbench.ledger import Ledger, LedgerError
from editbench.locate_then_edit.prompts import subject_row
from editbench.model.chat_template import format_of
from editbench.model.language_model import LanguageModel, load_model
from editbench.model_places import SHIPPED_MODELS
from editbench.records import EditRecord, RecordSet
from editbench.registry import load_method
from editbench.results.schema import LEDGER_FOLDER, STATE_FILE
from editbench.single_run import build_resources
from editbench.stream import Stream
from editbench.submission.claim import CannotSay, Claim, Refused
from editbench.threads import set_threads
from editbench.tracking import RunObserver

if TYPE_CHECKING:
    from editbench.editor import EditResult
    from editbench.results import RunFolder

KNOWN_PLACES = {
    "model.path": {*SHIPPED_MODELS, *fetched.MODELS},
    "model.texts": {"self", "pocket"},
    "dataset.path": {"pocket", fetched.FETCHED},
}
"""Values of settings that name a thing of editbench itself; any other is a path of the one who made the run."""


class _Copy:
    """The part of a run's folder that scoring and editing again need; they write into the ledger's copy, and beside."""

    def __init__(self, ledger: Path, claim: Claim) -> None:
        self.path, self.ledger, self.info, self._claim = ledger.parent, ledger, claim.info, claim

    def scores(self) -> list[dict[str, Any]]:
        return self._claim.rows

    def edits(self) -> list[dict[str, Any]]:
        return self._claim.edits


class Replay(EditingLoop):
    """The editing loop on a copy of a run's ledger: it scores and edits again, and keeps the rows."""

    def __init__(self, rebuilt: Rebuilt, ledger: Path) -> None:
        claim, config, lm = rebuilt.claim, rebuilt.config, rebuilt.lm
        seed, meter = config.stream.seed, rebuilt.meter
        own: Any = {"model": config.model, "dataset": config.dataset, "cache": config.cache, "seed": seed}
        resources = build_resources(lm, rebuilt.records, rebuilt.stream, **own, meter=meter)
        editor = load_method(config.method.name)(lm, Ledger(lm, ledger), config.method.settings, resources)
        folder = cast("RunFolder", _Copy(ledger, claim))
        parts = (config.protocol, seed, RunObserver(), meter)
        super().__init__(rebuilt.stream, editor, rebuilt.evaluator, folder, *parts)
        for row in claim.edits:
            self._note_not_edited(row["skipped"], row["failed"])
        self.rows: list[dict[str, Any]] = []
        self._remember_hidden()

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows += [dict(row) for row in rows]

    def restore(self) -> bool:
        """Bring the unedited model to the end of the run; whether its weights then have the bits that the run's had."""
        try:
            tensors, metadata = read_tensors(self.run_folder.ledger / STATE_FILE.rpartition("/")[2])
            self.editor.ledger.replay()
            self.editor.recall(tensors)
            return bool(self.editor.ledger.digest() == metadata["weights"])
        except (ResultsError, LedgerError, ValueError, LookupError, TypeError, RuntimeError) as error:
            raise Refused(f"the edits cannot be put into the base model: {error}") from error

    def go_back(self, keep: int) -> None:
        """Restore the model and the method's memory to those after ``keep`` batches of the ledger."""
        try:
            self.editor.ledger.rollback(keep)
        except ValueError as error:
            raise CannotSay(f"the method cannot go back to its state after {keep} batches: {error}") from error

    def unedited_rows(self) -> list[dict[str, Any]]:
        """Rows of the unedited model, as it must be now."""
        return self._unedited_rows()

    def score(self, records: Sequence[EditRecord], stage: str, edits: int, batch: int) -> list[dict[str, Any]]:
        """Rows of these records."""
        self.rows = []
        self._score(records, stage, edits, batch)
        return self.rows

    def score_model(self, records: Sequence[EditRecord], stage: str, edits: int, batch: int) -> list[dict[str, Any]]:
        """Rows of these records and of the model as a whole."""
        self.rows = []
        self._score_all(records, stage, edits, batch)
        return self.rows

    def edit(self, batch: Sequence[EditRecord]) -> tuple[EditResult, dict[str, str]]:
        """Edit a batch again; the result, and the reasons of failed edits by id."""
        return edit_possible(self._attempt, [record.request for record in batch])


@dataclass
class Rebuilt:
    """The parts of a claimed run that all of its replays share; ``lm`` is unedited between two of them."""

    claim: Claim
    config: RunConfig
    records: RecordSet
    stream: Stream
    lm: LanguageModel
    evaluator: Evaluator
    meter: Meter

    def replay(self, ledger: Path) -> Replay:
        """A replay on a new copy of the claim's ledger at ``ledger``; the model must be unedited."""
        shutil.copytree(self.claim.folder / LEDGER_FOLDER, ledger)
        return Replay(self, ledger)

    def records_of(self, ids: Sequence[str]) -> list[EditRecord]:
        """The records of these ids; all must be in the stream."""
        by_id = {record.id: record for record in self.stream.records}
        if unknown := [id for id in ids if id not in by_id]:
            raise Refused(f"the stream has no record {unknown[0]!r}")
        return [by_id[id] for id in ids]


def rebuild(claim: Claim, places: Mapping[str, str], cache: Path, *, to_edit: bool) -> Rebuilt:
    """Make the parts from the claim's config and the verifier's own things.

    Args:
        places: The verifier's own paths by setting ("model.path").
        cache: Folder, empty: nothing that was computed before is believed.
        to_edit: Whether edits will be made, which may need more of the verifier's files than scoring.

    Raises:
        CannotSay: The run needs things that this machine does not have; the message has the options that give them.
        Refused: Data or model are not those that the claim names.
    """
    config = _config(claim, places, cache, to_edit)
    known = claim.provenance
    if (here := provenance.versions(config.protocol, config.method.name)) != known["versions"]:
        different = sorted(name for name in here | known["versions"] if here.get(name) != known["versions"].get(name))
        raise CannotSay(f"it was made with other versions of {', '.join(different)}; take the editbench that it names")
    try:
        records = datasets.from_config(config.dataset, format_of(config.dataset, config.model))
        stream = Stream.build(records, config.stream)
        untouched = with_subjects(config.dataset, records, config.protocol.hidden_shift)
    except (ValueError, OSError) as error:
        raise CannotSay(f"its records cannot be read: {error}") from error
    _same("dataset", records.fingerprint, known)
    _same("stream", stream.fingerprint, known)
    ids = [id for row in claim.edits for id in row["ids"]]
    if ids != [record.id for record in stream.records[: len(ids)]]:
        raise Refused("its edits are not those of the stream, in their order")
    try:
        lm = load_model(config.model)
    except (ValueError, OSError) as error:
        raise CannotSay(f"its model cannot be loaded: {error}") from error
    set_threads(lm.model, None, None, known.get("threads"))
    _same("model", lm.fingerprint, known)
    meter = Meter()
    given: Any = {"cache": cache, "seed": config.stream.seed, "costs": meter.costs}
    rows = [subject_row(lm, request) for request in untouched]
    evaluator = Evaluator.build(lm, records, stream, config.protocol, untouched=rows, **given)
    return Rebuilt(claim, config, records, stream, lm, evaluator, meter)


def _same(name: str, found: str, known: Mapping[str, Any]) -> None:
    if found != known[name]["hash"]:
        told = str(known[name]["hash"])[:12]
        raise Refused(f"the {name} is another: its hash here is {found[:12]}, the run names {told}")


def _config(claim: Claim, places: Mapping[str, str], cache: Path, to_edit: bool) -> RunConfig:
    plain = {part: dict(of) if isinstance(of, dict) else of for part, of in claim.config.items()}
    name = plain["method"]["name"]
    if name not in plugins.entry_points(plugins.METHODS):
        raise CannotSay(f"the method {name!r} is not installed here")
    if not to_edit:  # what covariance and values come from
        plain["model"] |= {"covariance": None} | ({"texts": "self"} if "model.texts" not in places else {})
    wanted = [setting for setting in _settings_of_places(plain, name) if setting not in places]
    if unknown := sorted(set(places) - set(_settings_of_places(plain, name, every=True))):
        raise CannotSay(f"--path {unknown[0]}=… names no path of this run")
    if wanted:
        asked = " ".join(f"--path {setting}=YOURS" for setting in wanted)
        raise CannotSay(f"the run names files of its maker, which are not read; give your own with {asked}")
    for setting, place in places.items():
        part, _, key = setting.rpartition(".")
        of: dict[str, Any] = plain["protocol"]["ability"] if part == "protocol.ability" else plain[part]
        of[key] = place
    try:
        return of_kept(plain, cache)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise CannotSay(f"its config cannot be used by this editbench: {error}") from error


def _settings_of_places(plain: dict[str, Any], method: str, every: bool = False) -> list[str]:
    """Settings that hold a path of the run's maker; with ``every`` all that can. Paths to write to are reset."""
    config = load_method(method).config_class
    kinds = {one.name: one.metadata.get("path") for one in fields(config)}
    for key in (key for key, kind in kinds.items() if kind == provenance.WRITTEN):
        plain["method"][key] = None
    values = {f"model.{key}": plain["model"].get(key) for key in ("path", "texts", "covariance")}
    values |= {f"dataset.{key}": value for key, value in plain["dataset"].items() if key.endswith("path")}
    values["protocol.ability.include_path"] = plain["protocol"]["ability"].get("include_path")
    own = [key for key, kind in kinds.items() if kind not in (None, provenance.WRITTEN)]
    values |= {f"method.{key}": plain["method"].get(key) for key in own}
    pocket = {"pocket"}
    return [s for s, value in values.items() if every or value not in {None, "", *KNOWN_PLACES.get(s, pocket)}]

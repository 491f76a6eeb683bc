"""A finished run's edited model, made again from its base model and its ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from editbench import datasets, fetched, plugins
from editbench.checkpoint import RunCheckpoint
from editbench.config import RunConfig
from editbench.costs import Meter
from editbench.files import ResultsError, read_bytes
from editbench.kept_config import of_kept
from editbench.ledger import Ledger
from editbench.model.chat_template import format_of
from editbench.model.language_model import LanguageModel, load_model
from editbench.provenance import WRITTEN
from editbench.registry import load_method
from editbench.resources import Resources
from editbench.results import schema
from editbench.results.run_folder import is_run, read_info, read_run
from editbench.single_run import build_resources
from editbench.stream import Stream
from editbench.threads import set_threads

if TYPE_CHECKING:
    from editbench.editor import Editor
    from editbench.records import PromptFormat, RecordSet, Route


@dataclass(frozen=True)
class EditedModel:
    """An edited model, ready to be asked; :func:`open_run` makes that of a run."""

    config: RunConfig
    editor: Editor[Any]
    prompt_format: PromptFormat  # of the questions: prompts are given without it

    @property
    def lm(self) -> LanguageModel:
        """The language model; its weights are the edited ones."""
        return self.editor.lm

    def generate(self, prompts: str | Sequence[str], **options: Any) -> list[str]:
        """Greedy continuations of plain prompts by the edited model; options as for :meth:`LanguageModel.generate`."""
        return self.editor.generate(self._asked(prompts), **options)

    def generate_unedited(self, prompts: str | Sequence[str], **options: Any) -> list[str]:
        """The same by the model as it was before the edits."""
        with self.editor.ledger.pristine():
            return self.lm.generate(self._asked(prompts), **options)

    def routes(self, prompts: str | Sequence[str]) -> list[Route] | None:
        """The edit that answers each prompt, of methods that choose one; None of others."""
        return self.editor.route(self._asked(prompts))

    def _asked(self, prompts: str | Sequence[str]) -> list[str]:
        return [self.prompt_format.apply(prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]


def open_run(folder: str | Path, model: str | Path | None = None, device: str | None = None) -> EditedModel:
    """Load the base model of a finished run, or of one exported as a ledger, and put its edits into it.

    Nothing is written to the folder. No record is read, and nothing is trained.

    Args:
        folder: The run's folder, or one that ``editbench export --to ledger`` made.
        model: Where the base model lies, if not where the run had it. It must be the same, by the hash of its content.
        device: Where it runs; None: as the run did.

    Raises:
        ResultsError: The folder holds no finished run, or a file of it is damaged.
        LedgerError: The edits give other weights than the run had.
        ValueError: The model is another, or cannot be loaded.
    """
    folder = Path(folder)
    config = config_of(folder)
    place, where = str(model or config.model.path), device or config.model.device
    return edited(folder, replace(config, model=replace(config.model, path=place, device=where)))


def config_of(folder: Path) -> RunConfig:
    """The config of a finished run; a ResultsError if there is none, or its files are damaged."""
    info = finished(folder)
    plain = yaml.safe_load(read_bytes(folder / schema.CONFIG_FILE).decode("utf-8"))
    name = info["provenance"]["method"]["name"]
    if name not in plugins.entry_points(plugins.METHODS):
        raise ResultsError(f"{folder}: its method {name!r} is not installed here")
    for one in fields(load_method(name).config_class):
        if one.metadata.get("path") == WRITTEN:
            plain["method"][one.name] = None
    return of_kept(plain, fetched.cache_folder())


def data_of(folder: Path, config: RunConfig) -> tuple[RecordSet, Stream]:
    """Records and stream of a run; a ValueError if they are not those that were edited, or the run has no rows."""
    if not (folder / schema.EDITS_FILE).exists():
        raise ValueError(f"{folder} was exported without its rows; give the run's own folder")
    records = datasets.from_config(config.dataset, format_of(config.dataset, config.model))
    if records.fingerprint != read_info(folder)["provenance"]["dataset"]["hash"]:
        raise ValueError(f"{folder}: the records at {config.dataset.path} are not those that were edited")
    return records, Stream.build(records, config.stream)


def finished(folder: Path) -> schema.RunInfo:
    """``run.json`` of a finished run, or of an exported one; a ResultsError for any other folder."""
    if not is_run(folder):
        raise ResultsError(f"{folder} holds no run; give a run's folder, or one of editbench export --to ledger")
    rows = (schema.CHAIN_FILE, schema.SCORES_FILE, schema.EDITS_FILE)
    exported = not any((folder / name).exists() for name in rows)  # its tensors have digests of their own
    info = read_info(folder) if exported else read_run(folder)
    if info["provenance"].get("stream", {}).get("mode") == "single":
        raise ResultsError(f"{folder}: each edit was made alone and taken back; there is no edited model to open")
    if info["status"] == "done":
        return info
    reason = f" ({info['reason']})" if info["reason"] else ""
    raise ResultsError(f"{folder} is {info['status']}{reason}; only a finished run has an edited model to open")


def edited(folder: Path, config: RunConfig, to_edit: tuple[RecordSet, Stream] | None = None) -> EditedModel:
    """The edited model of a config's run whose files are in ``folder``.

    ``to_edit`` are the run's records and stream where edits are to be made, and the ledger may then be written to.
    """
    known = read_info(folder)["provenance"]
    lm = load_model(config.model)
    set_threads(lm.model, None, None, known.get("threads"))
    if lm.fingerprint != known["model"]["hash"]:
        raise ResultsError(
            f"{folder}: the model at {config.model.path} is not the one that was edited (its hash is "
            f"{lm.fingerprint[:12]}, the run names {known['model']['hash'][:12]}); give the right one with --model"
        )
    own: Any = {"cache": config.cache, "seed": config.stream.seed}
    chat_format = format_of(config.dataset, config.model)
    around = config.dataset.settings.format_of_prompts(chat_format)
    if to_edit is not None:
        resources = build_resources(lm, *to_edit, model=config.model, dataset=config.dataset, **own, meter=Meter())
    else:
        learnt = partial(datasets.training_records, config.dataset, chat_format, ())
        resources = Resources.build(lm, config.model, **own, prompt_format=around, load_training_records=learnt)
    ledger = folder / schema.LEDGER_FOLDER
    editor = load_method(config.method.name)(lm, Ledger(lm, ledger), config.method.settings, resources)
    RunCheckpoint(ledger).restore(editor, cut=to_edit is not None)
    return EditedModel(config, editor, around)

"""``editbench export RUN --to checkpoint|lora|ledger``: the edited model in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from editbench.console import quiet_libraries
from editbench.edited_run.adapter import write_adapter
from editbench.edited_run.opened import EditedModel, finished, open_run
from editbench.files import new_folder
from editbench.results import schema

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

FORMS = ("checkpoint", "lora", "ledger")


def export(
    folder: str | Path,
    to: str,
    out: str | Path,
    model: str | Path | None = None,
    device: str | None = None,
    rank: int | None = None,
) -> str:
    """Write the edited model of a finished run to the new folder ``out``; one line on what was written.

    Args:
        folder: The run's folder, or one made by an export "ledger".
        to: "checkpoint", model and tokenizer as Hugging Face's ``from_pretrained`` loads them; "lora", the summed
            changes as an adapter of peft; "ledger", the edits as data, for :func:`open_run`, for every method.
        model, device: As for :func:`open_run`.
        rank: Of the adapter, at most; None takes what keeps the changes to float32's accuracy.
    """
    source = Path(folder)
    finished(source)
    with new_folder(Path(out)) as hidden:
        if to == "ledger":
            write_ledger(source, hidden)
            return f'{out}: the edits as data; editbench.open_run("{out}") loads base model and edits'
        run = open_run(source, model, device)
        if run.editor.kind not in ("weights", "none"):
            raise ValueError(
                f"{run.config.method.name} keeps its edits beside the weights; export them with --to ledger, and load "
                "them with editbench.open_run"
            )
        if to == "lora":
            return f"{out}: {write_adapter(run, hidden, rank)}"
        write_checkpoint(run, hidden)
        return f"{out}: the edited model; AutoModelForCausalLM.from_pretrained loads it{_about_dtypes(run.lm)}"


def write_checkpoint(run: EditedModel, folder: Path) -> None:
    """Model and tokenizer; each weight in the dtype that the run had it in."""
    run.lm.model.save_pretrained(folder)
    run.lm.tokenizer.save_pretrained(folder)


def _about_dtypes(lm: LanguageModel) -> str:
    """What happens to weights that are held in another dtype than the model's: transformers loads all in one."""
    if not lm.held:
        return ""
    dtype = str(lm.model.dtype).removeprefix("torch.")
    return (
        f". {len(lm.held)} edited matrices are in float32 in it, the rest in {dtype}: from_pretrained rounds them to "
        f"{dtype}, which may undo small changes, and keeps them with dtype=torch.float32; --to ledger keeps the whole "
        "as it was"
    )


def write_ledger(source: Path, folder: Path) -> None:
    """The part of a run's folder from which :func:`open_run` makes the edited model: no rows, no scores."""
    for name in (schema.CONFIG_FILE, schema.RUN_FILE):
        shutil.copyfile(source / name, folder / name)
    shutil.copytree(source / schema.LEDGER_FOLDER, folder / schema.LEDGER_FOLDER)


def main(folder: str, to: str, out: str, model: str | None, device: str | None, rank: int | None) -> int:
    """Export, and say what was written."""
    quiet_libraries()
    print(export(folder, to, out, model, device, rank))
    return 0

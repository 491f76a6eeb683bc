"""Level 3: batches of a sample edited again, from the state of the run before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.files import ResultsError
from editbench.ledger_files import LedgerFiles
from editbench.results.schema import LEDGER_FOLDER
from editbench.submission.agreement import Scores, Tolerance, change_error, drawn
from editbench.submission.claim import CannotSay, Refused
from editbench.submission.rescore import compare_records
from editbench.weight_changes import from_tensors, parts_of

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.submission.rebuilt import Rebuilt, Replay


@dataclass
class Edits:
    """Batches of a claim beside the same batches edited again."""

    tolerance: Tolerance
    batches: int = 0
    equal: int = 0  # to the bit
    error: float = 0.0  # the largest
    cosine: float = 1.0  # the smallest
    wrong: list[str] = field(default_factory=list)

    def add(self, batch: int, told: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        """Count a batch, given by the tensors of its changes and of the method's memory."""
        error, cosine = change_error(told, found)
        self.batches += 1
        self.equal += error == 0.0
        self.error, self.cosine = max(self.error, error), min(self.cosine, cosine)
        if error > self.tolerance.change or cosine < self.tolerance.cosine:
            self.wrong.append(
                f"batch {batch}, edited again, is another edit (relative error {error:.2g}, {cosine=:.3f})"
            )

    def report(self) -> dict[str, Any]:
        """For the verdict."""
        error = self.error if self.error < float("inf") else None
        return {"batches": self.batches, "equal": self.equal, "relative_error": error, "cosine": self.cosine}


def reedit(rebuilt: Rebuilt, folder: Path, sample: int, nonce: str, tolerance: Tolerance) -> tuple[Edits, Scores]:
    """Edit batches of a sample again; compare their changes, and the rows that were scored right after them.

    ``folder`` is for the ledger's copy. The model must be unedited, and is again afterwards.
    """
    claim, edits, scores = rebuilt.claim, Edits(tolerance), Scores(tolerance)
    replay, single = rebuilt.replay(folder), rebuilt.stream.single
    replay.editor.prepare([] if single else [record.request for record in rebuilt.stream.records])
    own = LedgerFiles(claim.folder / LEDGER_FOLDER)
    first = {name: tensor.clone() for name, tensor in replay.editor.state().items()}
    if not single:
        replay.restore()
    for batch in reversed(drawn([f"batch|{row['batch']}" for row in claim.edits], sample, claim.root, nonce)):
        before = claim.kept_after(batch - 1)
        replay.go_back(before)
        _edit_again(rebuilt, replay, claim.edits[batch])
        try:
            told = _tensors(own, before, claim.kept_after(batch))
            found = _tensors(LedgerFiles(replay.run_folder.ledger), before, None)
        except (ResultsError, LookupError, TypeError, ValueError) as error:
            raise Refused(f"the edits of batch {batch} cannot be read: {error}") from error
        if not single:
            edits.add(batch, told, found)
        _score_after(scores, rebuilt, replay, batch)
        if single:
            replay.go_back(0)
            replay.editor.restore(first)
    replay.go_back(0)
    return edits, scores


def _edit_again(rebuilt: Rebuilt, replay: Replay, row: Mapping[str, Any]) -> None:
    result, failed = replay.edit(rebuilt.records_of(row["ids"]))
    if new := sorted(failed.keys() - row["failed"].keys()):
        raise CannotSay(f"batch {row['batch']} cannot be edited again: {new[0]}: {failed[new[0]]}")
    for what, found in (("failed", failed), ("skipped", result.skipped)):
        if set(found) != set(row[what]):
            raise Refused(
                f"batch {row['batch']}: {sorted(set(found) ^ set(row[what]))[0]!r} is {what} there or here alone"
            )


def _tensors(files: LedgerFiles, start: int, end: int | None) -> dict[str, Tensor]:
    """Changes of each weight by batches of the ledger, and tensors of the method's memory, by names, in float64."""
    found: dict[str, Tensor] = {}
    for number, batch in enumerate(files.index()[start:end], start):
        for change in from_tensors(*files.load(number, batch)):
            parts = {name: part.double() for name, part in parts_of(change).items()}
            delta = parts["delta"] if "delta" in parts else parts["left"] @ parts["right"].T
            found[change.weight] = found[change.weight] + delta if change.weight in found else delta
        for name, blob in batch.memory.items():
            tensors, _ = files.load_memory(blob)
            found |= {f"{name}|{key}": tensor for key, tensor in tensors.items() if tensor.is_floating_point()}
    return found


def _score_after(scores: Scores, rebuilt: Rebuilt, replay: Replay, batch: int) -> None:
    stage = "final" if rebuilt.stream.single else "immediate"
    told = [row for row in rebuilt.claim.records(stage) if row["batch"] == batch]
    if told:
        records = rebuilt.records_of([row["record"] for row in told])
        found = replay.score(records, stage, told[0]["edits"], batch)
        compare_records(scores, rebuilt, replay, told, found)

"""The loop: a stream of edits goes through a method into a model, is scored, and lands in the results.

Everything written is on disk batch by batch. A run that was stopped goes on where its last saved state was: base model,
ledger replayed (checked by a digest of the touched weights), the method's memory restored.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from editbench.editor import EditError, EditReceipt
from editbench.evaluation.drift import change_and_norm
from editbench.progress import progress
from editbench.resume import SavedState
from editbench.tracking import Observer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from editbench.editor import Editor
    from editbench.evaluation import Evaluator
    from editbench.records import EditRecord, EditRequest
    from editbench.results import RunStore
    from editbench.stream import Stream


BEFORE_BASELINE = -2
"""The baseline's rows stand at batch -1: before the first edit."""
AT_ONCE = 256
"""Records scored and written at once: bounds the memory of evaluating a long stream."""
_NO_NUMBER = re.compile(r"\b(nan|inf|infinite)\b", re.IGNORECASE)


@dataclass
class Clock:
    """Wall seconds of editing and of evaluating, apart; carried over when a run goes on.

    Editing counts what a method prepares before the first edit, ``prepare_seconds``: NSE finds its values then.
    """

    edit_seconds: float = 0.0
    prepare_seconds: float = 0.0
    evaluation_seconds: float = 0.0


class Session:
    """One run over one stream. Make the parts first (:mod:`editbench.setup`), then call :meth:`run`."""

    def __init__(
        self,
        stream: Stream,
        editor: Editor[Any],
        evaluator: Evaluator,
        store: RunStore,
        moments: Sequence[str],
        *,
        retention_sample: int | None = None,
        seed: int = 0,
        observer: Observer | None = None,
    ) -> None:
        """Take the parts.

        Args:
            stream: What is edited.
            editor: The method, on the unedited model.
            evaluator: Scores the same model.
            store: Takes the rows.
            moments: "immediate", "final".
            retention_sample: At a checkpoint, score this many of the records so far; None for all.
            seed: Seed of that sample.
            observer: Is shown every row as it is written.
        """
        self.stream, self.editor, self.evaluator, self.store = stream, editor, evaluator, store
        self.moments = tuple(moments)
        self._retention = (retention_sample, seed)
        self._observer = observer or Observer()
        self.clock = Clock()
        self.not_edited: dict[str, str] = {}  # id -> "unsupported: …", "skipped: …" or "failed: …"
        self._positions = {record.id: i for i, record in enumerate(stream.records)}
        self._saved = SavedState(store.ledger)

    def run(self) -> None:
        """Edit and score the whole stream, from where an earlier process left off if one did."""
        self.evaluator.remember_hidden()
        begun = time.perf_counter()
        self.editor.prepare([record.request for record in self.stream.records])
        prepared = time.perf_counter() - begun
        start = self._resume()
        if start == 0:
            self.clock.prepare_seconds = prepared
            self.clock.edit_seconds += prepared
        with progress(f"{type(self.editor).__name__}", len(self.stream)) as advance:
            advance(self.stream.edits_after(start - 1) if start else 0)
            for index, batch in self.stream.batches(start):
                self._edit(index, batch)
                edits = self.stream.edits_after(index)
                if "immediate" in self.moments:
                    self._score(batch, "immediate", edits, index)
                if self.stream.checkpoint_after(index) is not None:
                    self._look_back(self.stream.sample(edits, *self._retention), "checkpoint", edits, index)
                self._saved.save_if_due(index + 1, self.editor, asdict(self.clock))
                advance(len(batch))
        last = self.stream.batch_count - 1
        self._saved.save(last + 1, self.editor, asdict(self.clock))
        if "final" in self.moments:
            self._look_back(self.stream.records, "final", len(self.stream), last)

    def _resume(self) -> int:
        """Number of batches already done; their traces stay, later ones are dropped."""
        done, clock = self._saved.restore(self.editor)
        self.clock = Clock(**clock) if clock else Clock()
        self.store.truncate_after(done - 1 if done else BEFORE_BASELINE)
        for row in self.store.edits():
            self._note_unedited(row["skipped"], row["failed"])
        self._observer.resume(self.store.edits(), self.store.scores())
        if done == 0:
            self._write(self._baseline_rows())
            self._saved.save(0, self.editor, asdict(self.clock))  # so that a stop before the first saving is a resume
        return done

    def _edit(self, index: int, batch: Sequence[EditRecord]) -> None:
        """Edit one batch. Records whose edit fails are named and left out, the others are tried again without them."""
        begun = time.perf_counter()
        wanted, failed = [record.request for record in batch], {}
        receipt = EditReceipt()
        while wanted:
            try:
                receipt = self._attempt(wanted)
                break
            except EditError as error:
                kind = "NaN: " if _NO_NUMBER.search(error.reason) else ""
                failed.update({i: kind + error.reason for i in error.ids})
                remaining = [r for r in wanted if r.id not in error.ids]
                if len(remaining) == len(wanted):
                    raise
                wanted = remaining
        seconds = time.perf_counter() - begun
        self.clock.edit_seconds += seconds
        self._note_unedited(receipt.skipped, failed)
        row = {
            "batch": index,
            "ids": [record.id for record in batch],
            "seconds": seconds,
            "skipped": receipt.skipped,
            "failed": failed,
            "losses": receipt.losses,
            **({"details": receipt.details} if receipt.details else {}),
        }
        self.store.append_edit(row)
        self._observer.edit(row)

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.store.append_scores(rows)
        self._observer.rows(rows)

    def _attempt(self, wanted: Sequence[EditRequest]) -> EditReceipt:
        """Edit; too little memory is an edit that failed, like others."""
        import torch

        try:
            return self.editor.edit(wanted)
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            reason = str(error).partition("\n")[0]
            raise EditError([request.id for request in wanted], f"out of memory: {reason}") from error

    def _score(self, records: Sequence[EditRecord], moment: str, edits: int, batch: int) -> None:
        placed = [(record, self._positions[record.id]) for record in records]
        for start in range(0, len(placed), AT_ONCE):
            rows = self._timed(
                self.evaluator.score,
                placed[start : start + AT_ONCE],
                moment=moment,
                edits=edits,
                batch=batch,
                editor=self.editor,
                unsupported=self.not_edited,
            )
            self._write(rows)

    def _look_back(self, records: Sequence[EditRecord], moment: str, edits: int, batch: int) -> None:
        """Score records and texts, and say how far the model has moved and what the method keeps."""
        self._score(records, moment, edits, batch)
        self._write(self._timed(self.evaluator.score_texts, moment, edits, batch, self.editor))
        stamp = {"moment": moment, "edits": edits, "batch": batch}
        state = {"drift": self._drift(), "footprint": asdict(self.editor.footprint())}
        self._write([{**stamp, "texts": name, "scores": of_it} for name, of_it in state.items() if of_it])

    def _drift(self) -> dict[str, float]:
        """‖W − W₀‖ / ‖W₀‖ of each touched weight and of all together, and the mean relative change of hidden states."""
        ledger, found = self.editor.ledger, dict[str, float]()
        changes, norms = [], []
        for name in ledger.touched:
            change, norm = change_and_norm(ledger.host.weight(name), ledger.delta(name))
            changes.append(change)
            norms.append(norm)
            found[f"weight_change.{name}"] = _ratio(change, norm)
        if changes:
            found["weight_change"] = _ratio(math.hypot(*changes), math.hypot(*norms))
        hidden = self.evaluator.hidden_change(self.editor)
        return found if hidden is None else {**found, "hidden_change": hidden}

    def _baseline_rows(self) -> list[dict[str, Any]]:
        """How likely the texts are to the unedited model."""
        baseline = self.evaluator.baseline
        texts = baseline.texts if baseline is not None else {}
        stamp = {"moment": "baseline", "edits": 0, "batch": BEFORE_BASELINE + 1}
        return [{**stamp, "texts": name, "scores": dict(scores)} for name, scores in texts.items()]

    def _note_unedited(self, skipped: Mapping[str, str], failed: Mapping[str, str]) -> None:
        self.not_edited.update(skipped)
        self.not_edited.update({i: f"failed: {reason}" for i, reason in failed.items()})

    def _timed(self, call: Any, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        begun = time.perf_counter()
        rows: list[dict[str, Any]] = call(*args, **kwargs)
        self.clock.evaluation_seconds += time.perf_counter() - begun
        return rows


def _ratio(change: float, norm: float) -> float:
    """The quotient; infinite for a weight that was zero."""
    return change / norm if norm else math.inf

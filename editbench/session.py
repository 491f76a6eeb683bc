"""The loop: a stream of edits goes through a method into a model, is scored, and lands in the results.

Everything written is on disk batch by batch. A run that was stopped goes on where its last saved state was: base model,
ledger replayed (checked by a digest of the touched weights), the method's memory restored.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from editbench.editor import EditError, EditReceipt
from editbench.progress import progress
from editbench.resume import SavedState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from editbench.editor import Editor
    from editbench.evaluation import Evaluator
    from editbench.records import EditRecord
    from editbench.results import RunStore
    from editbench.stream import Stream


BEFORE_BASELINE = -2
"""The baseline's rows stand at batch -1: before the first edit."""


@dataclass
class Clock:
    """Wall seconds of editing and of evaluating, apart; carried over when a run goes on."""

    edit_seconds: float = 0.0
    evaluation_seconds: float = 0.0


class Session:
    """One run over one stream. Make the parts first (:mod:`editbench.setup`), then call :meth:`run`."""

    def __init__(
        self, stream: Stream, editor: Editor[Any], evaluator: Evaluator, store: RunStore, moments: Sequence[str]
    ) -> None:
        self.stream, self.editor, self.evaluator, self.store = stream, editor, evaluator, store
        self.moments = tuple(moments)
        self.clock = Clock()
        self.not_edited: dict[str, str] = {}  # id -> "unsupported: …", "skipped: …" or "failed: …"
        self._positions = {record.id: i for i, record in enumerate(stream.records)}
        self._saved = SavedState(store.ledger)

    def run(self) -> None:
        """Edit and score the whole stream, from where an earlier process left off if one did."""
        self.editor.prepare([record.request for record in self.stream.records])
        start = self._resume()
        with progress(f"{type(self.editor).__name__}", len(self.stream)) as advance:
            advance(self.stream.edits_after(start - 1) if start else 0)
            for index, batch in self.stream.batches(start):
                self._edit(index, batch)
                edits = self.stream.edits_after(index)
                if "immediate" in self.moments:
                    self._score(batch, "immediate", edits, index)
                if self.stream.checkpoint_after(index) is not None:
                    self._score(self.stream.records[:edits], "checkpoint", edits, index, texts=True)
                self._saved.save_if_due(index + 1, self.editor, asdict(self.clock))
                advance(len(batch))
        last = self.stream.batch_count - 1
        self._saved.save(last + 1, self.editor, asdict(self.clock))
        if "final" in self.moments:
            self._score(self.stream.records, "final", len(self.stream), last, texts=True)

    def _resume(self) -> int:
        """Number of batches already done; their traces stay, later ones are dropped."""
        done, clock = self._saved.restore(self.editor)
        self.clock = Clock(**clock) if clock else Clock()
        self.store.truncate_after(done - 1 if done else BEFORE_BASELINE)
        for row in self.store.edits():
            self._note_unedited(row["skipped"], row["failed"])
        if done == 0:
            self.store.append_scores(self._baseline_rows())
        return done

    def _edit(self, index: int, batch: Sequence[EditRecord]) -> None:
        """Edit one batch. Records whose edit fails are named and left out, the others are tried again without them."""
        begun = time.perf_counter()
        wanted, failed = [record.request for record in batch], {}
        receipt = EditReceipt()
        while wanted:
            try:
                receipt = self.editor.edit(wanted)
                break
            except EditError as error:
                failed.update({i: error.reason for i in error.ids})
                remaining = [r for r in wanted if r.id not in error.ids]
                if len(remaining) == len(wanted):
                    raise
                wanted = remaining
        seconds = time.perf_counter() - begun
        self.clock.edit_seconds += seconds
        self._note_unedited(receipt.skipped, failed)
        self.store.append_edit(
            {
                "batch": index,
                "ids": [record.id for record in batch],
                "seconds": seconds,
                "skipped": receipt.skipped,
                "failed": failed,
                "losses": receipt.losses,
                **({"details": receipt.details} if receipt.details else {}),
            }
        )

    def _score(self, records: Sequence[EditRecord], moment: str, edits: int, batch: int, texts: bool = False) -> None:
        placed = [(record, self._positions[record.id]) for record in records]
        rows = self._timed(
            self.evaluator.score,
            placed,
            moment=moment,
            edits=edits,
            batch=batch,
            editor=self.editor,
            unsupported=self.not_edited,
        )
        if texts:
            rows += self._timed(self.evaluator.score_texts, moment, edits, batch, self.editor)
        self.store.append_scores(rows)

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

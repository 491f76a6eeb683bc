"""The editing loop: a method writes a stream of edits into a model; edits and scores become rows of a run folder.

All rows of a batch are on disk before the next one. A stopped run resumes from its checkpoint: the ledger is replayed
into the unedited model (checked by a digest of the changed weights), the method's memory restored.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from editbench.checkpoint import RunCheckpoint
from editbench.config import ProtocolConfig
from editbench.costs import EDIT, EVALUATION, PREPARE, Meter
from editbench.editor import Editor, EditResult, edit_possible
from editbench.evaluation.drift import change_and_norm
from editbench.evaluation.latency import latency
from editbench.evaluation.scoring_plan import ScoringPlan
from editbench.ledger import LedgerError
from editbench.progress import phase, progress
from editbench.records import OUT_OF_MEMORY, EditError, EditRecord, EditRequest
from editbench.results.continuation import CONTINUED
from editbench.stopping import Collapse, StopRule

if TYPE_CHECKING:
    from editbench.evaluation.evaluator import Evaluator
    from editbench.results import RunFolder
    from editbench.stream import Stream
    from editbench.tracking import RunObserver

_log = logging.getLogger(__name__)
UNEDITED_BATCH = -1  # batch index of rows scored before the first edit
RECORDS_TOGETHER = 256  # records scored and written together: bounds the memory of evaluating a long stream


class EditingLoop:
    """One run over one stream. Make the parts first (:mod:`editbench.single_run`), then call :meth:`run`."""

    def __init__(
        self,
        stream: Stream,
        editor: Editor[Any],
        evaluator: Evaluator,
        run_folder: RunFolder,
        protocol: ProtocolConfig,
        seed: int,
        observer: RunObserver,
        meter: Meter,
        stop_when: Sequence[str] = (),
    ) -> None:
        self.stream, self.editor, self.evaluator, self.run_folder = stream, editor, evaluator, run_folder
        self.meter, self._observer, self._plan = meter, observer, ScoringPlan(stream, protocol, seed)
        self.not_edited: dict[str, str] = {}  # id -> "unsupported: …" or "failed: …"
        self.collapse: Collapse | None = None
        self._stop_rule = StopRule(stop_when, protocol.headline)
        self._rows_of_batch: list[Mapping[str, Any]] = []
        self._positions = {record.id: i for i, record in enumerate(stream.records)}
        self._checkpoint = RunCheckpoint(run_folder.ledger)
        self._sealed_batches, self._sealed_cached = 0, set[str]()
        self._warned = False  # of numbers that are not finite
        self._latency: dict[str, float] = {}

    def run(self) -> None:
        """Edit and score the whole stream, from where an earlier process stopped if one did."""
        self._remember_hidden()
        fresh = not self._checkpoint.exists
        if fresh:
            self._resume(self._unedited_rows())  # on disk before long computations
        phase("preparing")
        taken_over = self._taken_over()
        self._prepare(taken_over)
        start = 0 if fresh else self._resume(())
        if taken_over is not None:  # now the rest, which counts for this run's costs
            self._prepare()
            self._score_point(start - 1, unless_scored=True)
        self._look_for_collapse()
        phase("editing")
        score = self._score_alone() if self.stream.single else self._score_so_far
        last = start - 1
        with progress("editing", len(self.stream), self.stream.edits_after(last) if start else 0) as advance:
            for index, batch in self.stream.batches(start):
                if self.collapse is not None:
                    break
                self._edit(index, batch)
                score(index, batch)
                head = self._seal(index)
                self._checkpoint.save_if_due(index + 1, head, self.editor, self.meter.state())
                self._look_for_collapse()
                advance(len(batch))
                last = index
        self._conclude(last + 1)
        self._checkpoint.save(last + 1, self.run_folder.head, self.editor, self.meter.state())
        phase("scoring")
        self._score_at_the_end(last)

    def _remember_hidden(self) -> None:
        """Keep what the evaluator compares hidden states with. The model must be unedited."""
        self.evaluator.remember_hidden(max(self.editor.layers(), default=None))

    def _taken_over(self) -> int | None:
        """Number of edits that were taken over from a shorter run, if the checkpoint still stands behind them."""
        continued = self.run_folder.info["provenance"].get(CONTINUED)
        done = self._checkpoint.batches * self.stream.batch_size
        return done if continued is not None and continued["edits"] == done else None

    def _prepare(self, edits: int | None = None) -> None:
        """Prepare for the first ``edits`` edits (None: all). Nothing is computed for single edits together."""
        requests = [] if self.stream.single else [record.request for record in self.stream.records[:edits]]
        with self.meter.stage(PREPARE):
            self.editor.prepare(requests)

    def _score_so_far(self, index: int, batch: Sequence[EditRecord]) -> None:
        """Score a batch right after its edit, and at an evaluation point the records so far."""
        edits = self.stream.edits_after(index)
        if self._plan.right_after:
            self._score(batch, "immediate", edits, index)
        self._score_point(index)

    def _score_point(self, index: int, unless_scored: bool = False) -> None:
        """Score the records so far if there is an evaluation point after this batch."""
        if self.stream.evaluation_point_after(index) is None:
            return
        if unless_scored and any((r["stage"], r["batch"]) == ("interim", index) for r in self.run_folder.scores()):
            return
        edits = self.stream.edits_after(index)
        self._score_all(self._plan.records_at_point(edits), "interim", edits, index)

    def _score_alone(self) -> Callable[[int, Sequence[EditRecord]], None]:
        """Scoring of single edits: each one is taken back, and weights, ledger and memory have their first bits."""
        unedited = {name: tensor.clone() for name, tensor in self.editor.state().items()}

        def score(index: int, batch: Sequence[EditRecord]) -> None:
            self._score(batch, "final", 1, index)
            self.editor.ledger.rollback()
            self.editor.restore(unedited)

        return score

    def _score_at_the_end(self, last: int) -> None:
        if self.stream.single:  # its records are scored
            self._write(self.evaluator.score_edited(self.run_folder.scores(), "final", 1, last))
        elif self._plan.at_the_end:
            edits = self.stream.edits_after(last)
            records = self._plan.records_at_the_end(edits)
            self._score_all(records, "final", edits, last)
            with self.meter.stage(EVALUATION):
                self._latency = latency(self.editor.lm, records, self.editor)
        else:
            return
        self._seal(last)

    def _resume(self, unedited: Sequence[Mapping[str, Any]]) -> int:
        """Number of batches done, by the checkpoint; later rows are dropped. Saves the first one after ``unedited``.

        The last batch's rows are not yet looked at for a collapse: a run that goes on from a shorter one adds some.
        """
        fresh = not self._checkpoint.exists
        self.run_folder.truncate_after(self._checkpoint.head)
        done, measured = self._checkpoint.restore(self.editor)
        if measured:
            self.meter.restore(measured, add=() if done else (PREPARE, EDIT))  # nothing was prepared before
        self._sealed_batches = len(self.editor.ledger)
        for row in self.run_folder.edits():
            self._note_not_edited(row["skipped"], row["failed"])
        self._observer.resume(self.run_folder.edits(), self.run_folder.scores())
        for _, rows in groupby(self.run_folder.scores() if self._stop_rule else (), key=itemgetter("batch")):
            self._look_for_collapse()
            self._rows_of_batch = list(rows)
        if fresh:
            self._write(unedited)
            head = self._seal(UNEDITED_BATCH)
            self._checkpoint.save(0, head, self.editor, self.meter.state())  # a stop before the next saving is a resume
        return done

    def _seal(self, batch: int) -> str:
        """Seal the rows of a batch and the ledger's entry for it; the chain's new head."""
        new, used = self.editor.ledger.entries[self._sealed_batches :], self.meter.costs.digests
        tensors = [entry.blob.digest for entry in new if entry.blob is not None]
        cached = {name: digest for name, digest in used.items() if name not in self._sealed_cached}
        head = self.run_folder.seal(batch, tensors, cached)
        self._sealed_batches += len(new)
        self._sealed_cached.update(cached)
        used.clear()
        return head

    def _edit(self, index: int, batch: Sequence[EditRecord]) -> None:
        before = self.meter.seconds[EDIT]
        with self.meter.stage(EDIT):
            result, failed = edit_possible(self._attempt, [record.request for record in batch])
        seconds = self.meter.seconds[EDIT] - before
        self._note_not_edited(result.skipped, failed)
        row = {"batch": index, "ids": [record.id for record in batch], "seconds": seconds, "skipped": result.skipped}
        row |= {"failed": failed, "losses": result.losses}
        if result.details:
            row["details"] = result.details
        self.run_folder.append_edit(row)
        self._observer.edit(row)

    def _conclude(self, index: int) -> None:
        """Let the method change the model after the last edit, once; a row without ids tells what it did."""
        if not self.editor.concludes or self.stream.single:
            return
        if (rows := self.run_folder.edits()) and not rows[-1]["ids"]:
            return
        with self.meter.stage(EDIT):
            result = self.editor.finish()
        row = {"batch": index, "ids": [], "seconds": result.seconds, "skipped": {}, "failed": {}, "losses": {}}
        self.run_folder.append_edit({**row, **({"details": result.details} if result.details else {})})
        self._observer.edit(row)
        self._seal(index)

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.run_folder.append_scores(rows)
        self._observer.rows(rows)
        self._rows_of_batch += rows
        broken = next((r for r in rows if "record" in r and r["scores"].keys() & set(r.get("nonfinite", ()))), None)
        if broken is not None and not self._warned:
            self._warned = True
            _log.warning(
                "after batch %d the model gives NaN or infinity (record %r)", broken["batch"], broken["record"]
            )

    def _look_for_collapse(self) -> None:
        """Note whether the rows of a batch, all on disk, say that the model has collapsed."""
        self.collapse = self.collapse or self._stop_rule.collapse(self._rows_of_batch)
        self._rows_of_batch = []

    def _attempt(self, wanted: Sequence[EditRequest]) -> EditResult:
        """Edit; too little memory is an :class:`EditError` too."""
        import torch

        try:
            result = self.editor.edit(wanted)
            if self.stream.single:  # each edit is a stream of its own
                result.details.update(self.editor.finish().details)
            return result
        except LedgerError as error:
            raise EditError([request.id for request in wanted], str(error)) from error
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            reason = str(error).partition("\n")[0]
            raise EditError([request.id for request in wanted], reason, OUT_OF_MEMORY) from error

    def _score(self, records: Sequence[EditRecord], stage: str, edits: int, batch: int) -> None:
        stamp = {"stage": stage, "edits": edits, "batch": batch}
        placed = [(record, self._positions[record.id]) for record in records]
        overwritten = self.stream.overwritten(edits, self.not_edited, records)
        asked = [(self.stream.asked_now(record, overwritten), position) for record, position in placed]
        reasons = {id: f"skipped: overwritten by {later!r}" for id, later in overwritten.items()}
        reasons |= {r.id: self.not_edited[r.id] for r in records if r.id in self.not_edited}
        with progress("scoring", len(placed)) as advance:
            for start in range(0, len(placed), RECORDS_TOGETHER):
                part = asked[start : start + RECORDS_TOGETHER]
                rows = self._timed(self.evaluator.score, part, **stamp, editor=self.editor, unsupported=reasons)
                for row, (record, _) in zip(rows, placed[start:], strict=False):
                    if row["record"] != record.id:  # its revision's answers are the right ones now
                        row.update(record=record.id, against=row["record"])
                self._write(rows)
                advance(len(part))

    def _score_all(self, records: Sequence[EditRecord], stage: str, edits: int, batch: int) -> None:
        """Score records and the model as a whole: texts, unrelated questions, general ability, drift, footprint."""
        self._score(records, stage, edits, batch)
        for call in (self.evaluator.score_texts, self.evaluator.score_unrelated, self.evaluator.score_ability):
            self._write(self._timed(call, stage, edits, batch, self.editor))
        stamp = {"stage": stage, "edits": edits, "batch": batch}
        state = {"drift": self._drift(at_the_end=stage == "final"), "footprint": asdict(self.editor.footprint())}
        self._write([{**stamp, "of": name, "scores": of_it} for name, of_it in state.items() if of_it])

    def _drift(self, at_the_end: bool) -> dict[str, float]:
        """‖W − W₀‖ / ‖W₀‖ of each changed weight and of all together, and changes of hidden states."""
        ledger = self.editor.ledger
        names = ledger.changed_weights
        pairs = [change_and_norm(ledger.lm.weight(name), ledger.delta(name)) for name in names]
        found = {f"weight_change.{name}": _ratio(*pair) for name, pair in zip(names, pairs, strict=True)}
        if pairs:
            found["weight_change"] = _ratio(*(math.hypot(*all_of_one) for all_of_one in zip(*pairs, strict=True)))
        kept = self.run_folder.path if at_the_end else None
        hidden = {"hidden_change": self.evaluator.hidden_change(self.editor)}
        hidden["hidden_shift"] = self.evaluator.hidden_shift(self.editor, kept)
        return found | {name: change for name, change in hidden.items() if change is not None}

    def _unedited_rows(self) -> list[dict[str, Any]]:
        """Rows of the unedited model: perplexity of the texts, unrelated questions, general ability."""
        unedited = self.evaluator.unedited
        texts = unedited.texts if unedited is not None else {}
        stamp: dict[str, Any] = {"stage": "before", "edits": 0, "batch": UNEDITED_BATCH}
        rows = [{**stamp, "of": f"perplexity.{name}", "scores": dict(scores)} for name, scores in texts.items()]
        for call in (self.evaluator.score_unrelated, self.evaluator.score_ability):
            rows += self._timed(call, **stamp)
        return rows

    def _note_not_edited(self, skipped: Mapping[str, str], failed: Mapping[str, str]) -> None:
        """Note reasons by id. A skipped record is unsupported: only the data can be a reason to skip."""
        self.not_edited.update({i: f"unsupported: {of.removeprefix('unsupported: ')}" for i, of in skipped.items()})
        self.not_edited.update({i: f"failed: {reason}" for i, reason in failed.items()})

    def _timed(self, call: Any, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        with self.meter.stage(EVALUATION):
            rows: list[dict[str, Any]] = call(*args, **kwargs)
        return rows

    def costs(self) -> dict[str, Any]:
        """Costs of the run so far, as in run.json."""
        made = (self.collapse.edits if self.collapse else len(self.stream)) - len(self.not_edited)
        kept = {} if self.stream.single else {"footprint": asdict(self.editor.footprint())}
        return {**self.meter.report(), "edits_made": made, **self._latency, **kept}


def _ratio(change: float, norm: float) -> float:
    """The quotient; infinite for a weight that was zero."""
    return change / norm if norm else math.inf

"""The ledger: every change made to a model's weights, as data.

Editors do not write into weights. They hand changes to the ledger, which applies and keeps them (in memory, or on disk
by `editbench.ledger_files`). A rollback restores earlier weights and replays the remaining changes, bit for bit;
subtracting a change would not give the same bits. A failed transaction restores copies of the weights it changed.

Of several ledgers of one model, only the last to change a weight may change or restore it (`editbench.ledger_order`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editbench.files import DamagedFile
from editbench.ledger_files import Blob as Blob
from editbench.ledger_files import EditBatch as EditBatch
from editbench.ledger_files import LedgerFiles
from editbench.ledger_order import make_last
from editbench.model.language_model import LanguageModel, tensor_bytes
from editbench.weight_changes import Change as Change
from editbench.weight_changes import Dense as Dense
from editbench.weight_changes import LowRank as LowRank
from editbench.weight_changes import from_tensors, in_chunks, parts_of, to_cpu, to_tensors

RERUN = "start the run again with results.rerun=true"
KEYFRAME_EVERY = 256  # batches between two keyframes, at least: bounds the number of files


class LedgerError(RuntimeError):
    """A change that cannot be applied, or a ledger on disk that cannot be replayed."""


class NotFiniteError(LedgerError):
    """A change with NaN or infinite values, or after which its weight has some."""


class Ledger:
    """Applies and remembers the changes made to one language model, in the folder ``directory`` or in memory.

    A keyframe, where a replay can start, is written after ``keyframe_every`` batches that have at least as many bytes.
    """

    def __init__(
        self, lm: LanguageModel, directory: str | Path | None = None, keyframe_every: int = KEYFRAME_EVERY
    ) -> None:
        self.lm = lm
        self.entries: list[EditBatch] = []  # the edit batches in the model, in order
        self.before_rollback: list[Callable[[int], None]] = []
        """Called with the number of batches that stay, for edits beside the weights; an error stops the rollback."""
        self._files = LedgerFiles(Path(directory)) if directory is not None else None
        self._keyframe_every = keyframe_every
        self._pristine: dict[str, Tensor] = {}  # on the CPU
        self._changed: dict[str, None] = {}  # names of the changed weights, in the order of their first change
        self._by_id: dict[str, list[EditBatch]] = {}
        self._copies: dict[str, Tensor] = {}  # of changed weights, on their devices; made once, then overwritten
        self._copied: set[str] = set()  # weights whose copy is of the last batch
        self._shows_pristine = False
        self._transaction: Transaction | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return (
            f"<Ledger: {len(self)} batches, {len(self.edited_ids)} edits, {len(self.changed_weights)} changed weights>"
        )

    @property
    def edited_ids(self) -> list[str]:
        """Ids of the requests in the model, in the order of their edits."""
        return [i for entry in self.entries for i in entry.ids]

    def unused_ids(self) -> Iterator[str]:
        """Numbers from 0 that no request in the ledger has as its id, nor one whose edit was taken out of it."""
        used = {id for entry in self.entries for id in entry.written}
        yield from (id for id in map(str, count()) if id not in used)

    @property
    def changed_weights(self) -> list[str]:
        """Names of the changed weights, in the order of their first change."""
        return list(self._changed)

    @contextmanager
    def transaction(self, ids: Sequence[str], by: str = "") -> Iterator[Transaction]:
        """Collect the changes of one edit batch; they are in the model at once and in the ledger when the block ends.

        ``by`` is the class of the editor, since several may share a ledger.

        If the block raises, the weights are restored, and nothing is recorded.
        """
        if self._files is not None and (found := self._files.batches) != len(self.entries):
            raise LedgerError(f"{self._files.path} holds {found} edit batches: replay them first")
        self._transaction = transaction = Transaction(self, by)
        try:
            yield transaction
            self._commit(tuple(ids), transaction)
        except BaseException:
            self._set({name: self._copy(name) for name in transaction.weights if name in self._pristine})
            raise
        finally:
            self._transaction = None

    def _claim(self, names: Iterable[str]) -> None:
        """Become the last ledger to change these weights (:mod:`editbench.ledger_order`).

        A LedgerError if this one holds changes of a weight that another has changed since, and has not rolled back.
        """
        for name in names:
            was_last, others = make_last(self.lm.model, name, self)
            if others:
                raise LedgerError(
                    f"{name} of {self.lm.name} was changed through another ledger since (edits: "
                    f"{', '.join(others[:5])}): roll that one back first, or give both editors one ledger, as in "
                    "make_editor(…, ledger=LEDGER)"
                )
            if not was_last:  # others may have changed the weight since this ledger last copied it
                self._copied.discard(name)
                if not self.holds(name):
                    self._pristine.pop(name, None)

    def holds(self, name: str) -> bool:
        """Whether a change of the weight is in the ledger, or in its transaction."""
        return name in self._changed or (self._transaction is not None and name in self._transaction.weights)

    def _copy(self, name: str) -> Tensor:
        """The weight as the last batch left it; made when it is needed, before a transaction changes the weight."""
        if name not in self._changed:
            return self._pristine[name]
        if name not in self._copied:
            weight = self.lm.weight(name).detach()
            self._copies[name] = self._copies[name].copy_(weight) if name in self._copies else weight.clone()
            self._copied.add(name)
        return self._copies[name]

    def _apply(self, change: Change) -> None:
        target = self.lm.weight(change.weight)
        _check(change, target)
        if change.weight not in self._pristine:
            self._pristine[change.weight] = target.detach().to("cpu", copy=True)
        zero = torch.zeros((), dtype=target.dtype, device=target.device)
        for part, added in in_chunks(change, target):
            zero += (part.add_(added) * 0).sum()  # NaN where a number is not finite; several times faster than isfinite
        if not bool(zero == 0):  # once: a GPU must finish its work for each such comparison
            dtype = str(target.dtype).removeprefix("torch.")
            raise NotFiniteError(f"with this change numbers of {change.weight} become infinite in {dtype}")

    def _commit(self, ids: tuple[str, ...], transaction: Transaction) -> None:
        forgotten = [id for id in dict.fromkeys(transaction.forgotten) if id in ids or id in self._by_id]
        before, files = len(self.entries), self._files
        try:
            if files is None:
                changes = tuple(to_cpu(c) for c in transaction.changes)
                entry = EditBatch(ids, transaction.weights, changes=changes, by=transaction.by)
            else:
                entry = self._write(files, ids, transaction, forgotten)
            for call in transaction.when_kept:
                call(entry)
        except BaseException:
            if files is not None and files.batches > before:
                files.truncate(before)
            raise
        self._append(entry)
        self._copied -= set(entry.weights)
        self._mark_forgotten(forgotten)

    def _write(
        self, files: LedgerFiles, ids: Sequence[str], transaction: Transaction, forgotten: list[str]
    ) -> EditBatch:
        """Write a batch, and a keyframe if it is due."""
        tensors, kinds = to_tensors(transaction.changes)
        entry = files.append(ids, transaction.weights, tensors, {"changes": kinds}, transaction.memory, transaction.by)
        if forgotten:
            files.forget(forgotten)
        weights = {name: self.lm.weight(name) for name in self._changed | dict.fromkeys(entry.weights)}
        if weights and files.keyframe_due(self._keyframe_every, weights):
            files.add_keyframe(weights)
        return entry

    def _append(self, entry: EditBatch) -> None:
        self.entries.append(entry)
        self._changed.update(dict.fromkeys(entry.weights))
        for id in entry.ids:
            self._by_id.setdefault(id, []).append(entry)

    def rollback(self, keep: int = 0) -> None:
        """Restore the model to that after its first ``keep`` edit batches (0: pristine), bit for bit.

        A ValueError if ``keep`` is not between 0 and the number of batches, or if a method cannot go back there; a
        LedgerError if another ledger has changed one of the weights since.
        """
        if not 0 <= keep <= len(self.entries):
            raise ValueError(f"cannot keep {keep} edit batches: the ledger holds {len(self.entries)}")
        self._claim({name for entry in self.entries[keep:] for name in entry.weights})
        for call in self.before_rollback:
            call(keep)
        self._restore(keep)
        if self._files is not None:
            self._files.truncate(keep)
        kept, self.entries, self._changed, self._by_id = self.entries[:keep], [], {}, {}
        for entry in kept:
            entry.forgotten = {id: after for id, after in entry.forgotten.items() if after <= keep}
            self._append(entry)

    def forget_id(self, id: str) -> None:
        """Remove an id from its batch. For methods that undo an edit themselves; weights stay."""
        if self._transaction is not None:  # done by _commit, when the batch is in the ledger
            self._transaction.forgotten.append(id)
            return
        if id in self._by_id and self._files is not None:
            self._files.forget([id])
        self._mark_forgotten([id])

    def _mark_forgotten(self, ids: Sequence[str]) -> None:
        for id in ids:
            for entry in self._by_id.pop(id, ()):
                entry.forgotten[id] = len(self.entries)

    def _restore(self, keep: int) -> None:
        """Set the weights that batches change after the first ``keep`` to those before, from the last keyframe."""
        names = {name for entry in self.entries[keep:] for name in entry.weights}
        start, weights = self._files.keyframe(keep) if names and self._files is not None else (0, {})
        self._copied -= names
        self._set({name: weights.get(name, self._pristine[name]) for name in names})
        for number in range(start, keep):
            if names.intersection(self.entries[number].weights):
                self._replay(number, names)

    def _replay(self, number: int, names: Collection[str] | None = None) -> None:
        """Apply the changes of a batch to these weights, to all by default."""
        entry = self.entries[number]
        for change in entry.changes if self._files is None else from_tensors(*self._files.load(number, entry)):
            if names is None or change.weight in names:
                self._apply(change)

    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, tensor in weights.items():
            self.lm.weight(name).copy_(tensor)

    @contextmanager
    def pristine(self) -> Iterator[None]:
        """Give the model its original weights within the block; afterwards its edited ones again, bit for bit."""
        if self._shows_pristine:
            yield
            return
        self._claim(self._changed)
        pending = self._pristine.keys() & (self._transaction.weights if self._transaction is not None else ())
        edited = {name: self.lm.weight(name).detach().clone() for name in pending}
        edited |= {name: self._copy(name) for name in self._changed if name not in pending}
        self._shows_pristine = True
        try:
            self._set({name: self._pristine[name] for name in edited})
            yield
        finally:
            self._shows_pristine = False
            self._set(edited)

    def replay(self, keep: int | None = None, cut: bool = True) -> None:
        """Apply the batches that an earlier process left in ``directory`` to the unedited model.

        Batches after the first ``keep`` are deleted if ``cut``; None applies all. A LedgerError if the ledger already
        holds edits or a weight overflows; a DamagedFile names a batch that is missing or altered. Then the model is
        unedited.
        """
        if self.entries or self._files is None:
            raise LedgerError("replay needs an empty ledger with a directory")
        found = self._files.index()
        keep = len(found) if keep is None else keep
        if keep > len(found):
            raise DamagedFile(f"{self._files.path} holds {len(found)} edit batches, {keep} are needed")
        try:
            for entry in found[:keep]:
                self._append(entry)
            self._claim(self._changed)
            start, weights = self._files.keyframe(keep)
            self._pristine = {name: self.lm.weight(name).detach().to("cpu", copy=True) for name in weights}
            self._set(weights)
            for number, batch in enumerate(self.entries):
                try:
                    self._replay(number) if number >= start else self._files.check(number, batch)
                except NotFiniteError as error:
                    raise NotFiniteError(f"{self._files.path}, batch {number}: {error}; {RERUN}") from error
        except BaseException:
            self.entries, self._changed, self._by_id = [], {}, {}
            self._set(self._pristine)
            raise
        if cut:
            self._files.truncate(keep)

    def load_memory(self, blob: Blob) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata that a method gave to `Transaction.remember`, from a place in `EditBatch.memory`."""
        assert self._files is not None, "a ledger in memory keeps no memory of methods"
        return self._files.load_memory(blob)

    def memory_metadata(self, blobs: Iterable[Blob]) -> Iterator[dict[str, Any]]:
        """The metadata alone, for a choice of what to load: `LedgerFiles.memory_metadata`, which reads no tensors."""
        assert self._files is not None, "a ledger in memory keeps no memory of methods"
        return self._files.memory_metadata(blobs)

    @property
    def on_disk(self) -> bool:
        """Whether the ledger is in a folder, and so keeps what methods give to `Transaction.remember`."""
        return self._files is not None

    def delta(self, name: str) -> Tensor:
        """Change of a weight since the start, (out, in), float64, on the CPU."""
        current = self.lm.weight(name).detach().cpu().double()
        return current - self._pristine[name].double() if name in self._pristine else torch.zeros_like(current)

    def digest(self) -> str:
        """Hex digest of the changed weights now; equal digests mean equal bits."""
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(self._changed):
            digest.update(name.encode())
            digest.update(tensor_bytes(self.lm.weight(name)))
        return digest.hexdigest()


class Transaction:
    """Hands the changes of one edit batch to the ledger as they are computed."""

    def __init__(self, ledger: Ledger, by: str = "") -> None:
        self.by = by
        self.changes, self.forgotten = list[Change](), list[str]()
        self.memory: dict[str, tuple[Mapping[str, Tensor], Mapping[str, Any]]] = {}  # by name, see `remember`
        self.when_kept: list[Callable[[EditBatch], None]] = []
        """Called once the batch is written, for changes of the method's memory; an error takes the batch back."""
        self._ledger = ledger

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights changed so far, in the order of their first change."""
        return tuple(dict.fromkeys(change.weight for change in self.changes))

    def apply(self, change: Change) -> None:
        """Apply a change to the model now, and keep it.

        A LedgerError if it does not fit its weight, if it or the changed weight has NaN or infinite values, or if
        another ledger has changed the weight since this one did.
        """
        self._ledger._claim([change.weight])
        if change.weight in self._ledger._changed:
            self._ledger._copy(change.weight)
        self.changes.append(change)
        self._ledger._apply(change)

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Apply the changes of the block to the model only until it ends; then the weights have their bits of before.

        Its changes are not kept: who needs them reads :attr:`changes` within the block.
        """
        before = len(self.changes)
        try:
            yield
        finally:
            tried, ledger = {change.weight for change in self.changes[before:]}, self._ledger
            del self.changes[before:]
            ledger._set({name: ledger._copy(name) for name in tried if name in ledger._pristine})
            for change in self.changes:
                if change.weight in tried:
                    ledger._apply(change)

    def remember(self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Keep part of the method's own memory with this batch: `EditBatch.memory` then has its place by name.

        A ledger in a folder writes it once, beside the changes; one in memory leaves it to the method. ``metadata`` are
        JSON values.
        """
        self.memory.pop(name, None)  # the order is that of the last calls
        self.memory[name] = tensors, metadata


def _check(change: Change, target: Tensor) -> None:
    """Refuse a change that does not fit ``target`` (out, in), or has values that are not finite."""
    parts = list(parts_of(change).values())
    if isinstance(change, Dense):
        fits = change.delta.shape == target.shape
    else:
        (out, *r), (inner, *s) = change.left.shape, change.right.shape
        fits = (out, inner) == tuple(target.shape) and r == s
    if not fits:
        shapes = [tuple(part.shape) for part in parts]
        raise LedgerError(f"change of shape {shapes} does not fit {change.weight} {tuple(target.shape)}")
    if not target.is_floating_point():
        raise LedgerError(
            f"{change.weight} holds {str(target.dtype).removeprefix('torch.')}, which cannot take a change; load the "
            "model without quantisation, or give another layer"
        )
    if not all(bool(torch.isfinite(p).all()) for p in parts):
        raise NotFiniteError(f"the change of {change.weight} holds NaN or infinite values")

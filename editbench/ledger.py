"""The ledger: every change made to a model's weights, as data.

Editors do not write into weights. They hand changes to the ledger, which applies them, keeps them (in memory or as one
safetensors file an edit batch), and can take them back: rolling back restores the pristine weights and replays what is
to stay, bit for bit. Subtracting a change would not give the same bits.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from editbench.files import replacing
from editbench.model.language_model import LanguageModel, tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

CHUNK_NUMBERS = 1 << 22
"""Size of the product that is formed at once when a low-rank change is applied: bounds the memory of an edit."""


class LedgerError(RuntimeError):
    """A change that cannot be applied, or a ledger on disk that cannot be replayed."""


class NotFiniteError(LedgerError):
    """A change that holds NaN or infinite values, or after which its weight does."""


@dataclass(frozen=True)
class LowRank:
    """``weight += left @ right.T`` in the weight's own dtype.

    Attributes:
        weight: Parameter name, from the model's root.
        left: (out, r).
        right: (in, r), same dtype as ``left``; the product is formed in that dtype.
    """

    weight: str
    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class Dense:
    """``weight += delta``, with delta (out, in): for methods whose change has full rank."""

    weight: str
    delta: Tensor


Change = LowRank | Dense


@dataclass
class EditBatch:
    """One edit batch: which requests it holds, and its changes (in memory, or in ``file``)."""

    ids: tuple[str, ...]
    weights: tuple[str, ...]
    changes: tuple[Change, ...] | None = None
    file: Path | None = None

    def load(self) -> tuple[Change, ...]:
        """The changes, read from disk if they are not in memory."""
        if self.changes is not None:
            return self.changes
        assert self.file is not None
        return read_shard(self.file)[1]


class Ledger:
    """Applies and remembers the changes made to one lm.

    Attributes:
        entries: The edit batches in the model, in order.
        before_rollback: Called with the number of batches that will stay, for methods that keep edits beside the
            weights; one that raises stops the rollback.
    """

    def __init__(self, lm: LanguageModel, directory: Path | None = None) -> None:
        """Start an empty ledger.

        Args:
            lm: The model to change.
            directory: Where to append one file an edit batch; None keeps the changes in memory.
        """
        self.lm = lm
        self.directory = directory
        self.entries: list[EditBatch] = []
        self.before_rollback: list[Callable[[int], None]] = []
        self._pristine: dict[str, Tensor] = {}
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def edited_ids(self) -> list[str]:
        """Ids of the requests that the model holds, in the order in which they were written."""
        return [i for entry in self.entries for i in entry.ids]

    @property
    def changed_weights(self) -> list[str]:
        """Names of the weights that the edits in the ledger change, in the order of their first change."""
        return list(dict.fromkeys(name for entry in self.entries for name in entry.weights))

    # -- writing --------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, ids: Sequence[str]) -> Iterator[Transaction]:
        """Collect the changes of one edit batch; they are in the model at once and in the ledger when the block ends.

        If the block raises, the weights are put back to what they were before it, and nothing is recorded.
        """
        transaction = Transaction(self)
        try:
            yield transaction
            self._commit(tuple(ids), tuple(transaction.changes))
        except BaseException:
            if transaction.changes:
                self._restore(len(self.entries))
            raise

    def _apply(self, change: Change) -> None:
        target = self.lm.weight(change.weight)
        _check(change, target)
        if change.weight not in self._pristine:
            self._pristine[change.weight] = target.detach().to("cpu", copy=True)
        zero = torch.zeros((), dtype=target.dtype, device=target.device)
        for part, added in _in_chunks(change, target):
            zero += (part.add_(added) * 0).sum()  # NaN where a number is not finite; several times faster than isfinite
        if not bool(zero == 0):  # asked once: on a GPU every answer waits for the device
            dtype = str(target.dtype).removeprefix("torch.")
            raise NotFiniteError(f"with this change numbers of {change.weight} become infinite in {dtype}")

    def _commit(self, ids: tuple[str, ...], changes: tuple[Change, ...]) -> None:
        names = tuple(dict.fromkeys(c.weight for c in changes))
        if self.directory is None:
            self.entries.append(EditBatch(ids, names, changes=tuple(_to_cpu(c) for c in changes)))
        else:
            file = self.directory / f"{len(self.entries):06d}.safetensors"
            write_shard(file, ids, changes)
            self.entries.append(EditBatch(ids, names, file=file))

    # -- taking back ----------------------------------------------------------------------------------------------

    def rollback(self, keep: int = 0) -> None:
        """Restore the model to what it was after its first ``keep`` edit batches (0: pristine), bit for bit.

        Files of the batches taken back are deleted.

        Raises:
            ValueError: ``keep`` is not between 0 and the number of batches, or a method cannot go back there.
        """
        if not 0 <= keep <= len(self.entries):
            raise ValueError(f"cannot keep {keep} edit batches: the ledger holds {len(self.entries)}")
        for call in self.before_rollback:
            call(keep)
        self._restore(keep)
        for entry in self.entries[keep:]:
            if entry.file is not None:
                entry.file.unlink(missing_ok=True)
        del self.entries[keep:]

    def forget_id(self, id: str) -> None:
        """Take one edit off the list that a method has taken back by its own means; no weight changes."""
        for entry in self.entries:
            if id in entry.ids:
                entry.ids = tuple(i for i in entry.ids if i != id)
                if entry.file is not None:
                    write_shard(entry.file, entry.ids, entry.load())

    def _restore(self, keep: int) -> None:
        for name, tensor in self._pristine.items():
            self.lm.weight(name).copy_(tensor)
        for entry in self.entries[:keep]:
            for change in entry.load():
                self._apply(change)

    @contextmanager
    def pristine(self) -> Iterator[None]:
        """Within the block the model has its original weights; afterwards its edited ones again, bit for bit."""
        edited = {name: self.lm.weight(name).detach().to("cpu", copy=True) for name in self._pristine}
        try:
            for name, tensor in self._pristine.items():
                self.lm.weight(name).copy_(tensor)
            yield
        finally:
            for name, tensor in edited.items():
                self.lm.weight(name).copy_(tensor)

    # -- reading --------------------------------------------------------------------------------------------------

    def replay(self, keep: int | None = None) -> None:
        """Take up a ledger that an earlier process left in ``directory``: apply its batches to the unedited lm.

        Args:
            keep: How many batches to apply; later files are deleted. None applies all.

        Raises:
            LedgerError: The ledger already holds edits, a file is missing or damaged (named in the message), or a
                weight overflows; the model is then unedited.
        """
        if self.entries or self.directory is None:
            raise LedgerError("replay needs an empty ledger with a directory")
        files = sorted(self.directory.glob("[0-9]*.safetensors"))
        keep = len(files) if keep is None else keep
        if keep > len(files):
            raise LedgerError(f"{self.directory} holds {len(files)} edit batches, {keep} are needed")
        try:
            for index, file in enumerate(files[:keep]):
                self._replay(index, file)
        except BaseException:
            self.entries.clear()
            self._restore(0)
            raise
        for file in files[keep:]:
            file.unlink()

    def _replay(self, index: int, file: Path) -> None:
        if file.name != f"{index:06d}.safetensors":
            raise LedgerError(f"{self.directory}: batch {index:06d} is missing (found {file.name})")
        ids, changes = read_shard(file)
        try:
            for change in changes:
                self._apply(change)
        except NotFiniteError as error:
            raise NotFiniteError(f"{file}: {error}; start the run again with results.rerun=true") from error
        self.entries.append(EditBatch(ids, tuple(dict.fromkeys(c.weight for c in changes)), file=file))

    def delta(self, name: str) -> Tensor:
        """The change of weight ``name`` since the start, (out, in), float64, on the CPU."""
        current = self.lm.weight(name).detach().cpu().double()
        return current - self._pristine[name].double() if name in self._pristine else torch.zeros_like(current)

    def digest(self) -> str:
        """Hex digest of the touched weights as they are now; equal digests mean equal bits."""
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(self.changed_weights):
            digest.update(name.encode())
            digest.update(tensor_bytes(self.lm.weight(name)))
        return digest.hexdigest()

    def pristine_bytes(self) -> int:
        """Bytes of the pristine copies, held in host memory."""
        return sum(t.numel() * t.element_size() for t in self._pristine.values())


class Transaction:
    """Hands the changes of one edit batch to the ledger as they are computed."""

    def __init__(self, ledger: Ledger) -> None:
        self.changes: list[Change] = []
        self._ledger = ledger

    def apply(self, change: Change) -> None:
        """Put ``change`` into the model now and keep it.

        Raises:
            LedgerError: It does not fit its weight, it holds NaN or infinite values, or the weight does after it.
        """
        self.changes.append(change)
        self._ledger._apply(change)


# -- files ----------------------------------------------------------------------------------------------------


def write_shard(file: Path, ids: Sequence[str], changes: Sequence[Change]) -> None:
    """Write one edit batch as safetensors: complete and on disk, or not there at all."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    kinds: list[dict[str, str]] = []
    for index, change in enumerate(changes):
        parts: dict[str, Tensor] = (
            {"delta": change.delta} if isinstance(change, Dense) else {"left": change.left, "right": change.right}
        )
        kinds.append({"kind": "dense" if isinstance(change, Dense) else "lowrank", "weight": change.weight})
        tensors.update({f"{index:04d}.{part}": t.detach().cpu().contiguous() for part, t in parts.items()})
    tensors = tensors or {"empty": torch.zeros(0)}
    data = save(tensors, metadata={"ids": json.dumps(list(ids)), "changes": json.dumps(kinds)})
    with replacing(file) as temporary:
        temporary.write_bytes(data)


def read_shard(file: Path) -> tuple[tuple[str, ...], tuple[Change, ...]]:
    """The ids and changes of one edit batch.

    Raises:
        LedgerError: The file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as handle:
            meta: dict[str, Any] = handle.metadata() or {}
            tensors = {k: handle.get_tensor(k) for k in handle.keys()}  # noqa: SIM118
        ids, kinds = json.loads(meta["ids"]), json.loads(meta["changes"])
        changes: list[Change] = []
        for index, kind in enumerate(kinds):
            part = f"{index:04d}."
            if kind["kind"] == "dense":
                changes.append(Dense(kind["weight"], tensors[part + "delta"]))
            else:
                changes.append(LowRank(kind["weight"], tensors[part + "left"], tensors[part + "right"]))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise LedgerError(
            f"{file} cannot be read as an edit batch ({error}); it and all later batches are lost"
        ) from error
    return tuple(ids), tuple(changes)


def _check(change: Change, target: Tensor) -> None:
    """Refuse what does not fit ``target`` (out, in), or holds values that are no numbers."""
    if isinstance(change, Dense):
        fits, parts = change.delta.shape == target.shape, [change.delta]
    else:
        out_r, in_r = change.left.shape, change.right.shape
        fits = (out_r[0], in_r[0]) == tuple(target.shape) and out_r[1:] == in_r[1:]
        parts = [change.left, change.right]
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


def _in_chunks(change: Change, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of ``target`` (views of it), and what ``change`` adds to each, in the target's dtype and on its device."""
    if isinstance(change, Dense):
        yield target, change.delta.to(target)
        return
    # One memory layout, whether the factors come from a solve or from a file: products of other layouts differ in
    # their last bits.
    left, right = change.left.to(target.device).contiguous(), change.right.to(target.device).contiguous()
    rows = max(1, CHUNK_NUMBERS // max(1, right.shape[0]))
    for start in range(0, target.shape[0], rows):
        yield target[start : start + rows], (left[start : start + rows] @ right.T).to(target.dtype)


def _to_cpu(change: Change) -> Change:
    if isinstance(change, Dense):
        return Dense(change.weight, change.delta.detach().to("cpu", copy=True))
    return LowRank(change.weight, change.left.detach().to("cpu", copy=True), change.right.detach().to("cpu", copy=True))

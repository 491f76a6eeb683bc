"""All experts by edit id, in the layer's device, host memory, and on disk: in the run's ledger, or a folder."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.checks import suggestion
from editbench.files import DamagedFile

from .expert_files import Expert, ExpertFiles, number_of, read_expert
from .neuron_index import NeuronIndex

if TYPE_CHECKING:
    from editbench.ledger import Blob
    from editbench.memory_based.compression import CompressedDelta


_log = logging.getLogger(__name__)

LoadStored = Callable[["Blob"], tuple[Mapping[str, Tensor], Mapping[str, Any]]]
"""Reads tensors and metadata from a place in the ledger."""


class LRUStore:
    """Experts in one memory up to a size; the least recently used overflow into the next store, if there is one."""

    def __init__(self, device: torch.device | str, limit: int | None, overflow: LRUStore | None = None) -> None:
        """Start empty; ``limit`` is in bytes, None for no limit."""
        self.device, self.limit, self.overflow = device, limit, overflow
        self.nbytes = 0
        self.experts: OrderedDict[str, CompressedDelta] = OrderedDict()  # least recently used first

    def put(self, id: str, expert: CompressedDelta) -> None:
        """Add an expert as the most recently used."""
        self.pop(id)
        self.experts[id] = expert.to(self.device)
        self.nbytes += expert.nbytes
        while self.limit is not None and self.nbytes > self.limit:
            oldest, moved = next(iter(self.experts.items()))
            self.pop(oldest)
            if self.overflow is not None:
                self.overflow.put(oldest, moved)

    def pop(self, id: str) -> None:
        """Remove an expert, if it is here."""
        removed = self.experts.pop(id, None)
        self.nbytes -= removed.nbytes if removed is not None else 0


class ExpertBank:
    """Experts in the order in which they were added.

    Attributes:
        weight: Name of the base weight.
        index: Ids and prompts with their neurons and inputs.
        device: Most recently used experts, on the neurons' device.
        host: Experts less recently used, in host memory.
        files: The experts' files, or None.
        stored: Places of experts in the ledger by id; those that overflow the memories are read from there.
        lost: Reasons by id for edits whose file was damaged.
    """

    def __init__(
        self,
        weight: str,
        like: Tensor,
        device_bytes: int | None,
        host_bytes: int | None,
        path: Path | None,
        load_stored: LoadStored | None = None,
    ) -> None:
        """Start empty, whatever the folder ``path`` holds; ``like`` (0, d_ff) has the neurons' dtype and device."""
        assert host_bytes is None or path is not None or load_stored is not None
        self.weight = weight
        self.index = NeuronIndex(like)
        self.host = LRUStore("cpu", host_bytes)
        self.device = LRUStore(like.device, device_bytes, overflow=self.host)
        self.files = ExpertFiles(path) if path is not None else None
        self.stored: dict[str, Blob] = {}
        self.lost: dict[str, str] = {}
        self._load_stored = load_stored
        self._unloaded = bool(self.files)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def ids(self) -> list[str]:
        """All ids, in order."""
        return self.index.ids

    @property
    def prompts(self) -> list[str]:
        """Prompts in their format."""
        return self.index.prompts

    @property
    def neurons(self) -> Tensor:
        """(N, d_ff), float32 or wider, on the layer's device: a view until the next change."""
        return self.index.neurons

    @property
    def inputs(self) -> Tensor:
        """(N, d_ff) input x of each edit's own prompt, negatives for later neurons: a view until the next change."""
        return self.index.inputs

    def __iter__(self) -> Iterator[Expert]:
        """All experts; those whose file is damaged are left out, and lost from then on."""
        at = 0
        while at < len(self):
            expert = self._expert(at)
            if expert is not None:
                yield expert
                at += 1

    def _expert(self, at: int) -> Expert | None:
        compressed = self.peek(self.ids[at])
        if compressed is None:
            return None
        neuron, input = self.neurons[at].clone(), self.inputs[at].clone()  # no views: rows move
        return Expert(self.ids[at], self.prompts[at], self.weight, neuron, input, compressed)

    def add(self, expert: Expert) -> list[str]:
        """Append an expert and delete older ones with its id or its prompt, whose ids are returned."""
        return self.extend([expert])[0]

    def extend(self, experts: Sequence[Expert], stored: Mapping[str, Blob] | None = None) -> list[list[str]]:
        """Append experts as :meth:`add` does; ``stored`` has their places in the ledger by id, if they are there.

        If a file cannot be written, the bank is as it was.
        """
        for expert in experts:
            self._check(expert)
        if self._unloaded and self.files is not None:
            raise ValueError(
                f"{self.files.path} already holds {len(self.files)} experts that are not in this bank; load them with "
                "bank.load, or choose another bank_directory"
            )
        files = [None] * len(experts) if self.files is None else self.files.write(experts)
        stored = stored or {}
        return [self._add(e, file, stored.get(e.id)) for e, file in zip(experts, files, strict=True)]

    def _add(self, expert: Expert, file: Path | None, stored: Blob | None) -> list[str]:
        replaced = self.index.replaced_by(expert.id, expert.prompt)
        for id in replaced:
            self.delete(id)
        if self.files is not None and file is not None:
            self.files.take(expert.id, file)
        if stored is not None:
            self.stored[expert.id] = stored
        self._append(expert)
        return replaced

    def delete(self, id: str) -> None:
        """Delete an expert with its neuron, its input and its file; a ValueError if there is none."""
        if id not in self.index:
            raise ValueError(f"the bank holds no edit {id!r}; {suggestion(id, self.ids)}")
        self._forget(id)
        if self.files is not None:
            self.files.remove(id)

    def fetch(self, id: str) -> CompressedDelta | None:
        """Move an expert to the layer's device; None if its file is damaged, and the edit is then lost."""
        found = self.peek(id)
        if found is not None:
            found = found.to(self.device.device)
            self.host.pop(id)
            self.device.put(id, found)
        return found

    def peek(self, id: str) -> CompressedDelta | None:
        """Return the expert without moving it or marking it as used; None as in :meth:`fetch`."""
        for store in (self.device, self.host):
            if id in store.experts:
                return store.experts[id]
        if id in self.stored:
            return self.load_stored(self.stored[id]).compressed
        file = self.files.of(id) if self.files is not None else None
        assert file is not None
        try:
            return read_expert(file).compressed
        except DamagedFile as error:
            self._forget(id)
            self._lose(id, error)
            return None

    def load_stored(self, blob: Blob) -> Expert:
        """The expert at a place in the ledger; a DamagedFile if it is not the one that was written there."""
        assert self._load_stored is not None
        tensors, metadata = self._load_stored(blob)
        return Expert.of(metadata, tensors)

    def tensors(self) -> Iterator[Tensor]:
        """Neurons, inputs and all experts in memory."""
        yield from (self.neurons, self.inputs)
        for store in (self.device, self.host):
            for expert in store.experts.values():
                yield from expert.parts.values()

    @property
    def disk_bytes(self) -> int:
        """Bytes of the folder; without one, those of the experts that are only in the ledger."""
        if self.files is not None:
            return self.files.nbytes
        memories = self.device.experts.keys() | self.host.experts.keys()
        return sum(blob.bytes for id, blob in self.stored.items() if id not in memories)

    def save(self, path: str | Path) -> None:
        """Write the whole bank into a folder, in place of a bank that may be there."""
        path = Path(path)
        if self._is_own(path):
            return
        files = ExpertFiles(path)
        files.clear({})
        for expert in self:
            files.write([expert])

    def load(self, path: str | Path) -> dict[str, str]:
        """Append the bank in a folder; returns :attr:`lost`, with the edits whose files are damaged."""
        path = Path(path)
        own = self.files if self._is_own(path) else None
        for id, file in own if own is not None else ExpertFiles(path):
            try:
                expert = read_expert(file)
            except DamagedFile as error:
                self._lose(id, error)
                continue
            self._check(expert)
            if own is None:
                self.add(expert)
            elif expert.id not in self.index:
                self._append(expert)
        self._unloaded = self._unloaded and own is None
        return self.lost

    def state(self) -> dict[str, Tensor]:
        """The whole bank as tensors, enough for :meth:`restore` without the folder."""
        experts = list(self)
        text = json.dumps([expert.metadata() for expert in experts]).encode()
        state = {f"{i:06d}.{name}": t for i, expert in enumerate(experts) for name, t in expert.tensors().items()}
        return state | {"index": torch.frombuffer(bytearray(text), dtype=torch.uint8)}

    def restore(self, state: Mapping[str, Tensor], sealed: Mapping[str, Blob]) -> None:
        """Replace the bank by ``state``; a ValueError if that is no bank's, or of another weight.

        A DamagedFile if an expert of the state or in the folder is not the one that the ledger has by id, ``sealed``.
        """
        try:
            metadata = json.loads(bytes(state["index"].cpu().numpy()).decode()) if state else []
            tensors = _by_number(state)
            experts = [Expert.of(m, tensors.get(f"{i:06d}", {})) for i, m in enumerate(metadata)]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not the state of a bank of experts ({error})") from error
        for expert in experts:
            self._check(expert)
            if expert.id in sealed and sealed[expert.id].digest != expert.digest:
                raise DamagedFile(f"the saved expert of edit {expert.id!r} is damaged: it is not the ledger's")
        self.refill([(expert, sealed.get(expert.id)) for expert in experts], sealed)

    def refill(self, experts: Iterable[tuple[Expert, Blob | None]], sealed: Mapping[str, Blob]) -> None:
        """Replace the bank by experts with their places in the ledger.

        Files of the folder that hold an expert in its order stay. A DamagedFile, before anything is changed, names one
        that is not the ledger's by id, ``sealed``.
        """
        digests = {id: blob.digest for id, blob in sealed.items()}
        kept = self.files.clear(digests) if self.files is not None else {}
        for id in reversed(list(self.ids)):
            self._forget(id)
        self._unloaded = False
        for expert, stored in experts:
            self._check(expert)
            file = self.files.write([expert])[0] if self.files is not None and stored is None else None
            self._add(expert, file, stored)
        if self.files is not None:
            self._refill_files(self.files, kept)

    def _refill_files(self, files: ExpertFiles, kept: dict[str, Path]) -> None:
        """Give each expert a file, in order: its own, one of ``kept``, or a new one."""
        last = -1
        for at, id in enumerate(self.ids):
            old = kept.pop(id, None)
            file = files.of(id) or old
            if file is None or number_of(file) < last:
                expert = self._expert(at)
                assert expert is not None  # in memory, or in the ledger
                file = files.write([expert])[0]
            files.take(id, file)
            last = number_of(file)
            if old is not None and old != file:
                old.unlink(missing_ok=True)
        for old in kept.values():
            old.unlink(missing_ok=True)

    def _append(self, expert: Expert) -> None:
        self.device.put(expert.id, expert.compressed)
        self.index.append(expert.id, expert.prompt, expert.neuron, expert.input)
        self.lost.pop(expert.id, None)

    def _forget(self, id: str) -> None:
        self.index.delete(id)
        self.stored.pop(id, None)
        self.device.pop(id)
        self.host.pop(id)

    def _lose(self, id: str, error: DamagedFile) -> None:
        _log.warning("the expert of edit %r is lost: %s; no other expert is affected", id, error)
        self.lost[id] = str(error)

    def _is_own(self, path: Path) -> bool:
        return self.files is not None and path.resolve() == self.files.path.resolve()

    def _check(self, expert: Expert) -> None:
        size = self.neurons.shape[1]
        if expert.weight != self.weight or len(expert.neuron) != size:
            raise ValueError(
                f"the expert of edit {expert.id!r} belongs to {expert.weight} ({len(expert.neuron)} inputs); "
                f"this bank's are for {self.weight} ({size})"
            )


def _by_number(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors of a state by the number of their expert, and there by name."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        number, _, name = key.partition(".")
        found.setdefault(number, {})[name] = tensor
    return found

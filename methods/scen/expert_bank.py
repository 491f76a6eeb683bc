"""All experts by edit id, in three memories: the layer's device, host memory and a folder.

A folder holds one sealed tensor file an expert, so that a damaged file costs only its expert. It is named
"000012-<id>.safetensors": the number gives the order, and the id is known even if nothing can be read.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import torch
from torch import Tensor

from editbench.checks import suggestion
from editbench.files import DamagedFile, check_tensors, content_digest, read_bytes, read_tensors, write_tensors

from .compression import CompressedExpert

_log = logging.getLogger(__name__)

MAX_NAME_LENGTH = 120


@dataclass(frozen=True)
class Expert:
    """An edit's expert with its indexing neuron.

    Attributes:
        prompt: The prompt in its format; a newer edit of the same prompt replaces this one.
        weight: Name of the base weight.
        neuron: (d_ff,) indexing neuron.
        input: (d_ff,) input on which the neuron was trained to fire.
    """

    id: str
    prompt: str
    weight: str
    neuron: Tensor
    input: Tensor
    compressed: CompressedExpert

    def tensors(self) -> dict[str, Tensor]:
        """All tensors on the CPU, by their names in a file."""
        every = {"neuron": self.neuron, "input": self.input}
        every |= {f"part.{name}": tensor for name, tensor in self.compressed.parts.items()}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in every.items()}

    def metadata(self) -> dict[str, str]:
        """All fields that are no tensors."""
        return {"id": self.id, "prompt": self.prompt, "weight": self.weight, "kind": self.compressed.kind}

    @property
    def digest(self) -> str:
        """Content digest, also that of a file with this expert."""
        return content_digest(self.tensors(), self.metadata())

    @classmethod
    def of(cls, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Expert:
        """The expert of :meth:`metadata` and :meth:`tensors`; a KeyError if something is missing."""
        parts = {name.removeprefix("part."): t for name, t in tensors.items() if name.startswith("part.")}
        compressed = CompressedExpert(metadata["kind"], parts)
        texts = metadata["id"], metadata["prompt"], metadata["weight"]
        return cls(*texts, tensors["neuron"], tensors["input"], compressed)


class LRUStore:
    """Experts in one memory up to a size; the least recently used overflow into the next store, if there is one."""

    def __init__(self, device: torch.device | str, limit: int | None, overflow: LRUStore | None = None) -> None:
        """Start empty; ``limit`` is in bytes, None for no limit."""
        self.device, self.limit, self.overflow = device, limit, overflow
        self.nbytes = 0
        self.experts: OrderedDict[str, CompressedExpert] = OrderedDict()  # least recently used first

    def put(self, id: str, expert: CompressedExpert) -> None:
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


def _files_in(path: Path) -> dict[str, Path]:
    """Files of experts by quoted id, in the order in which they were written; makes the folder if it is missing."""
    path.mkdir(parents=True, exist_ok=True)
    return {_name_in(file): file for file in sorted(path.glob("[0-9]*-*.safetensors"))}


def _write(folder: Path, number: int, expert: Expert) -> Path:
    file = folder / f"{number:06d}-{_quoted(expert.id)}.safetensors"
    write_tensors(file, expert.tensors(), expert.metadata())
    return file


def _read(file: Path) -> Expert:
    tensors, metadata = read_tensors(file)
    try:
        expert = Expert.of(metadata, tensors)
    except KeyError as error:
        raise DamagedFile(f"{file} is damaged: it holds no {error}") from error
    if _name_in(file) != _quoted(expert.id):
        raise DamagedFile(f"{file} is damaged: it holds the expert of edit {expert.id!r}")
    return expert


def _name_in(file: Path) -> str:
    """The quoted id in a file's name."""
    return file.stem.partition("-")[2]


def _quoted(id: str) -> str:
    """An id as part of a file name; a long one is cut and gets a digest."""
    name = quote(id, safe="")
    if len(name) <= MAX_NAME_LENGTH:
        return name
    return f"{name[:MAX_NAME_LENGTH]}~{hashlib.blake2b(id.encode(), digest_size=8).hexdigest()}"


class ExpertBank:
    """Experts in the order in which they were added.

    Attributes:
        weight: Name of the base weight.
        prompts: Prompts in their format.
        neurons: (N, d_ff), float32 or wider, on the layer's device.
        inputs: (N, d_ff) input x of each edit's own prompt: negatives for later neurons.
        device: Most recently used experts, on the neurons' device.
        host: Experts less recently used, in host memory.
        files: Files of the experts by quoted id; empty without a folder.
        lost: Reasons by id for edits whose file was damaged.
    """

    def __init__(
        self, weight: str, like: Tensor, device_bytes: int | None, host_bytes: int | None, path: Path | None
    ) -> None:
        """Start empty, whatever the folder ``path`` holds; ``like`` (0, d_ff) has the neurons' dtype and device."""
        assert host_bytes is None or path is not None
        self.weight, self.path = weight, path
        self.ids: list[str] = []
        self.prompts: list[str] = []
        self.neurons = self.inputs = like
        self.host = LRUStore("cpu", host_bytes)
        self.device = LRUStore(like.device, device_bytes, overflow=self.host)
        self.files = _files_in(path) if path is not None else {}
        self.lost: dict[str, str] = {}
        self._unloaded = bool(self.files)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Expert]:
        """All experts; those whose file is damaged are left out, and lost from then on."""
        at = 0
        while at < len(self):
            id = self.ids[at]
            compressed = self.peek(id)
            if compressed is not None:
                yield Expert(id, self.prompts[at], self.weight, self.neurons[at], self.inputs[at], compressed)
                at += 1

    def add(self, expert: Expert) -> list[str]:
        """Append an expert and delete older ones with its id or its prompt, whose ids are returned."""
        self._check(expert)
        if self._unloaded:
            raise ValueError(
                f"{self.path} already holds {len(self.files)} experts that are not in this bank; load them with "
                "bank.load, or choose another bank_directory"
            )
        replaced = [i for i, p in zip(self.ids, self.prompts, strict=True) if expert.id == i or expert.prompt == p]
        for id in replaced:
            self.delete(id)
        if self.path is not None:
            last = max((int(file.name.partition("-")[0]) for file in self.files.values()), default=-1)
            file = _write(self.path, last + 1, expert)
            self._unlink(expert.id)
            self.files[_quoted(expert.id)] = file
        self._append(expert)
        return replaced

    def delete(self, id: str) -> None:
        """Delete an expert with its neuron, its input and its file; a ValueError if there is none."""
        if id not in self.ids:
            raise ValueError(f"the bank holds no edit {id!r}; {suggestion(id, self.ids)}")
        self._forget(id)
        self._unlink(id)

    def fetch(self, id: str) -> CompressedExpert | None:
        """Move an expert to the layer's device; None if its file is damaged, and the edit is then lost."""
        found = self.peek(id)
        if found is not None:
            found = found.to(self.device.device)
            self.host.pop(id)
            self.device.put(id, found)
        return found

    def peek(self, id: str) -> CompressedExpert | None:
        """Return the expert without moving it or marking it as used; None as in :meth:`fetch`."""
        for store in (self.device, self.host):
            if id in store.experts:
                return store.experts[id]
        try:
            return _read(self.files[_quoted(id)]).compressed
        except DamagedFile as error:
            self._forget(id)
            self._lose(id, error)
            return None

    def tensors(self) -> Iterator[Tensor]:
        """Neurons, inputs and all experts in memory."""
        yield from (self.neurons, self.inputs)
        for store in (self.device, self.host):
            for expert in store.experts.values():
                yield from expert.parts.values()

    def save(self, path: str | Path) -> None:
        """Write the whole bank into a folder, in place of a bank that may be there."""
        path = Path(path)
        if self._is_own(path):
            return
        for file in _files_in(path).values():
            file.unlink()
        for number, expert in enumerate(self):
            _write(path, number, expert)

    def load(self, path: str | Path) -> dict[str, str]:
        """Append the bank in a folder; returns :attr:`lost`, with the edits whose files are damaged."""
        path = Path(path)
        own = self._is_own(path)
        for name, file in list((self.files if own else _files_in(path)).items()):
            try:
                expert = _read(file)
            except DamagedFile as error:
                self._lose(unquote(name), error)
                continue
            self._check(expert)
            if not own:
                self.add(expert)
            elif expert.id not in self.ids:
                self._append(expert)
        self._unloaded = self._unloaded and not own
        return self.lost

    def state(self) -> dict[str, Tensor]:
        """The whole bank as tensors, enough for :meth:`restore` without the folder."""
        experts = list(self)
        text = json.dumps([expert.metadata() for expert in experts]).encode()
        state = {f"{i:06d}.{name}": t for i, expert in enumerate(experts) for name, t in expert.tensors().items()}
        return state | {"index": torch.frombuffer(bytearray(text), dtype=torch.uint8)}

    def restore(self, state: Mapping[str, Tensor], sealed: Mapping[str, str]) -> None:
        """Replace the bank by ``state``; a ValueError if that is no bank's, or of another weight.

        A DamagedFile if an expert of the state or in the folder has another content digest than ``sealed`` has by id.
        """
        try:
            metadata = json.loads(bytes(state["index"].cpu().numpy()).decode()) if state else []
            experts = [Expert.of(m, _under(state, f"{i:06d}.")) for i, m in enumerate(metadata)]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not the state of a bank of experts ({error})") from error
        for expert in experts:
            self._check(expert)
            if expert.id in sealed and sealed[expert.id] != expert.digest:
                raise DamagedFile(f"the saved expert of edit {expert.id!r} is damaged: it is not the ledger's")
        for id, digest in sealed.items():
            file = self.files.get(_quoted(id))
            if file is not None and check_tensors(read_bytes(file), str(file))[1] != digest:
                raise DamagedFile(f"{file} is damaged: it is not the expert that the run wrote for edit {id!r}")
        for id in list(self.ids):
            self._forget(id)
        while self.files:
            self.files.popitem()[1].unlink(missing_ok=True)
        self._unloaded = False
        for expert in experts:
            self.add(expert)

    def _append(self, expert: Expert) -> None:
        self.device.put(expert.id, expert.compressed)
        self.ids.append(expert.id)
        self.prompts.append(expert.prompt)
        self.neurons = torch.cat([self.neurons, expert.neuron.to(self.neurons)[None]])
        self.inputs = torch.cat([self.inputs, expert.input.to(self.inputs)[None]])
        self.lost.pop(expert.id, None)

    def _forget(self, id: str) -> None:
        at = self.ids.index(id)
        del self.ids[at], self.prompts[at]
        self.neurons = torch.cat([self.neurons[:at], self.neurons[at + 1 :]])
        self.inputs = torch.cat([self.inputs[:at], self.inputs[at + 1 :]])
        self.device.pop(id)
        self.host.pop(id)

    def _unlink(self, id: str) -> None:
        file = self.files.pop(_quoted(id), None)
        if file is not None:
            file.unlink(missing_ok=True)

    def _lose(self, id: str, error: DamagedFile) -> None:
        _log.warning("the expert of edit %r is lost: %s; no other expert is affected", id, error)
        self.lost[id] = str(error)

    def _is_own(self, path: Path) -> bool:
        return self.path is not None and path.resolve() == self.path.resolve()

    def _check(self, expert: Expert) -> None:
        size = self.neurons.shape[1]
        if expert.weight != self.weight or len(expert.neuron) != size:
            raise ValueError(
                f"the expert of edit {expert.id!r} belongs to {expert.weight} ({len(expert.neuron)} inputs); "
                f"this bank's are for {self.weight} ({size})"
            )


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}

"""A bank in a folder: one safetensors file an expert, complete, with a digest, so that a damaged one costs only itself.

Files are named "000012-<id>.safetensors": the number gives the order, and the name tells whose expert it is even when
nothing in it can be read.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import torch

from editbench.checks import suggestion
from editbench.files import replacing
from editbench.model.language_model import tensor_bytes

from .compression import Packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor


_log = logging.getLogger(__name__)

LONGEST_NAME = 120


class DamagedExpert(RuntimeError):
    """A file that does not hold the expert that was written to it."""

    def __init__(self, id: str, file: Path, reason: str) -> None:
        self.id, self.file, self.reason = id, file, reason
        super().__init__(
            f"the expert of edit {id!r} is lost: {file} is damaged ({reason}); the others are not concerned"
        )


@dataclass(frozen=True)
class Expert:
    """All that is known of one edit.

    Attributes:
        id: The request's id.
        prompt: The prompt as the model sees it; a newer edit of the same prompt replaces this one.
        weight: Name of the weight that the expert differs from.
        neuron: (d_ff,) its indexing neuron.
        input: (d_ff,) what the neuron was trained to fire on.
        packed: The difference.
    """

    id: str
    prompt: str
    weight: str
    neuron: Tensor
    input: Tensor
    packed: Packed

    def tensors(self) -> dict[str, Tensor]:
        """All its tensors, on the CPU, by their names in a file."""
        every = {"neuron": self.neuron, "input": self.input}
        every |= {f"part.{name}": tensor for name, tensor in self.packed.parts.items()}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in every.items()}

    def words(self) -> dict[str, str]:
        """The rest."""
        return {"id": self.id, "prompt": self.prompt, "weight": self.weight, "kind": self.packed.kind}

    @classmethod
    def of(cls, words: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Expert:
        """Put one together again.

        Raises:
            KeyError: Something is missing.
        """
        parts = {name.removeprefix("part."): t for name, t in tensors.items() if name.startswith("part.")}
        packed = Packed(words["kind"], parts)
        return cls(words["id"], words["prompt"], words["weight"], tensors["neuron"], tensors["input"], packed)


class Folder:
    """The files of a bank, by edit id, in the order in which they were written."""

    def __init__(self, path: Path) -> None:
        """Look at what is there.

        Args:
            path: Made if it does not exist.
        """
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.files = {_id_of(file): file for file in sorted(path.glob("[0-9]*-*.safetensors"))}

    def write(self, expert: Expert) -> None:
        """Add an expert: completely on disk, or not there at all. An older file of the same id goes."""
        from safetensors.torch import save

        number = 1 + max((int(file.name.partition("-")[0]) for file in self.files.values()), default=-1)
        file = self.path / f"{number:06d}-{_name_of(expert.id)}.safetensors"
        tensors, words = expert.tensors(), expert.words()
        data = save(tensors, metadata=words | {"digest": _digest(words, tensors)})
        with replacing(file) as temporary:
            temporary.write_bytes(data)
        self.remove(expert.id)
        self.files[_id_of(file)] = file

    def read(self, id: str) -> Expert:
        """The expert of one edit, its large tensors memory-mapped.

        Raises:
            DamagedExpert: The file is missing, or not what was written.
        """
        return _read(self.files[_unquoted(id)], id)

    def experts(self) -> Iterator[Expert | DamagedExpert]:
        """All experts in order; for each that cannot be read, what is wrong with it."""
        for name, file in list(self.files.items()):
            try:
                yield _read(file, name)
            except DamagedExpert as error:
                yield error

    def remove(self, id: str) -> None:
        """Delete the file of one edit, if there is one."""
        file = self.files.pop(_unquoted(id), None)
        if file is not None:
            file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete all files of the bank."""
        for id in list(self.files):
            self.remove(id)

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files.values() if file.exists())


def _read(file: Path, id: str) -> Expert:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as handle:
            words: dict[str, str] = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        digest = words.pop("digest")
        expert = Expert.of(words, tensors)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DamagedExpert(id, file, f"{type(error).__name__}: {error}") from error
    if digest != _digest(words, tensors):
        raise DamagedExpert(expert.id, file, "its digest does not fit its content")
    return expert


def _digest(words: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(repr(sorted(words.items())).encode(), digest_size=16)
    for name in sorted(tensors):
        digest.update(f"{name}:{tensors[name].dtype}:{tuple(tensors[name].shape)};".encode())
        digest.update(tensor_bytes(tensors[name]))
    return digest.hexdigest()


def _name_of(id: str) -> str:
    """An id as a part of a file name; long ones are cut and told apart by a digest."""
    name = quote(id, safe="")
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}~{hashlib.blake2b(id.encode(), digest_size=8).hexdigest()}"


def _unquoted(id: str) -> str:
    return unquote(_name_of(id))


def _id_of(file: Path) -> str:
    return unquote(file.stem.partition("-")[2])


class Tier:
    """Experts in one kind of memory, least recently used first."""

    def __init__(self, device: torch.device | str, limit: int | None) -> None:
        """Start empty.

        Args:
            device: Where its tensors are.
            limit: Bytes that may stay; None for any number.
        """
        self.device = device
        self.limit = limit
        self.nbytes = 0
        self.experts: OrderedDict[str, Packed] = OrderedDict()

    def add(self, id: str, packed: Packed) -> None:
        """Take an expert in, as the most recently used."""
        self.pop(id)
        self.experts[id] = packed.to(self.device)
        self.nbytes += packed.nbytes

    def pop(self, id: str) -> Packed | None:
        """Give an expert up, if it is here."""
        packed = self.experts.pop(id, None)
        self.nbytes -= packed.nbytes if packed is not None else 0
        return packed

    def overflow(self) -> list[tuple[str, Packed]]:
        """Give up the least recently used experts until the rest is within the limit."""
        out = []
        while self.limit is not None and self.nbytes > self.limit:
            id = next(iter(self.experts))
            packed = self.pop(id)
            assert packed is not None
            out.append((id, packed))
        return out


class Shelf:
    """Experts by edit id. With a folder each is also on disk from the stage it comes."""

    def __init__(
        self, device: torch.device, device_bytes: int | None, host_bytes: int | None, folder: Folder | None
    ) -> None:
        """Start empty, whatever is in the folder.

        Args:
            device: The layer's device.
            device_bytes: Bound of what stays on it.
            host_bytes: Bound of what stays in host memory; needs a folder.
            folder: Holds the rest.
        """
        assert host_bytes is None or folder is not None
        self.device = Tier(device, device_bytes)
        self.host = Tier("cpu", host_bytes)
        self.folder = folder

    def put(self, expert: Expert) -> None:
        """Take a new expert in."""
        if self.folder is not None:
            self.folder.write(expert)
        self.adopt(expert)

    def adopt(self, expert: Expert) -> None:
        """Take in an expert that the folder, if there is one, already holds."""
        self._settle(expert.id, expert.packed)

    def fetch(self, id: str) -> Packed:
        """The expert on the layer's device, and the most recently used from now on.

        Raises:
            DamagedExpert: It is on disk only, and its file is damaged.
        """
        packed = self.peek(id).to(self.device.device)
        self.host.pop(id)
        self._settle(id, packed)
        return packed

    def peek(self, id: str) -> Packed:
        """The expert wherever it lies, which it does not leave.

        Raises:
            DamagedExpert: It is on disk only, and its file is damaged.
        """
        for tier in (self.device, self.host):
            if id in tier.experts:
                return tier.experts[id]
        assert self.folder is not None
        return self.folder.read(id).packed

    def remove(self, id: str) -> None:
        """Forget an expert, its file too."""
        self.device.pop(id)
        self.host.pop(id)
        if self.folder is not None:
            self.folder.remove(id)

    def _settle(self, id: str, packed: Packed) -> None:
        moving = [(id, packed)]
        for tier in (self.device, self.host):
            for name, expert in moving:
                tier.add(name, expert)
            moving = tier.overflow()  # out of host memory: on disk only


class Bank:
    """Experts in the order in which they came.

    Attributes:
        ids: Edit ids.
        prompts: Their prompts, as the model sees them.
        neurons: (N, d_ff), float32 or wider, on the layer's device.
        inputs: (N, d_ff) the input x of each edit's own prompt: negatives for later neurons.
        lost: Edits whose file was damaged, and how.
    """

    def __init__(self, weight: str, like: Tensor, shelf: Shelf) -> None:
        """Start empty.

        Args:
            weight: Name of the weight that experts differ from.
            like: An empty (0, d_ff) tensor with the neurons' dtype and device.
            shelf: Where experts lie.
        """
        self.weight, self.shelf = weight, shelf
        self.ids: list[str] = []
        self.prompts: list[str] = []
        self.neurons = self.inputs = like
        self.lost: dict[str, str] = {}
        self._foreign = shelf.folder is not None and bool(shelf.folder.files)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Expert]:
        """All experts; those on disk whose file is damaged are left out, and lost from then on."""
        at = 0
        while at < len(self):
            id = self.ids[at]
            packed = self._unless_damaged(id, self.shelf.peek)
            if packed is not None:
                yield Expert(id, self.prompts[at], self.weight, self.neurons[at], self.inputs[at], packed)
                at += 1

    # -- one by one -----------------------------------------------------------------------------------------------

    def add(self, expert: Expert) -> list[str]:
        """Append an expert; it takes the place of older ones with its id or its prompt, whose ids are returned.

        Raises:
            ValueError: It differs from another weight, or the bank's folder holds experts that were not loaded.
        """
        self._check(expert)
        if self._foreign and self.shelf.folder is not None:
            raise ValueError(
                f"{self.shelf.folder.path} already holds {len(self.shelf.folder.files)} experts that are not in this "
                "bank; load them with load_bank, or choose another bank_directory"
            )
        replaced = [i for i, p in zip(self.ids, self.prompts, strict=True) if expert.id == i or expert.prompt == p]
        for id in replaced:
            self.delete(id)
        self.shelf.put(expert)
        self._append(expert)
        return replaced

    def delete(self, id: str) -> None:
        """Forget an edit: its expert, its neuron and its input, on disk too.

        Raises:
            ValueError: The bank holds no such edit.
        """
        if id not in self.ids:
            raise ValueError(f"the bank holds no edit {id!r}; {suggestion(id, self.ids)}")
        self._drop(id)
        self.shelf.remove(id)

    def fetch(self, id: str) -> Packed | None:
        """An expert on the layer's device; None if its file is damaged: the edit is then no longer in the bank."""
        return self._unless_damaged(id, self.shelf.fetch)

    # -- all ------------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the whole bank into a folder, in place of the bank that may be there."""
        if self.shelf.folder is not None and path.resolve() == self.shelf.folder.path.resolve():
            return
        folder = Folder(path)
        folder.clear()
        for expert in self:
            folder.write(expert)

    def load(self, path: Path) -> None:
        """Append the bank that a folder holds; damaged files are warned of and listed in :attr:`lost`.

        Raises:
            ValueError: It is the bank of another weight.
        """
        own = self.shelf.folder
        if own is None or path.resolve() != own.path.resolve():
            for expert in self._readable(Folder(path)):
                self.add(expert)
            return
        for expert in self._readable(own):
            self._check(expert)
            if expert.id not in self.ids:
                self.shelf.adopt(expert)
                self._append(expert)
        self._foreign = False

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors: enough for :meth:`restore`, whatever becomes of the folder."""
        state: dict[str, Tensor] = {}
        words = []
        for i, expert in enumerate(self):
            words.append(expert.words())
            state |= {f"{i:06d}.{name}": tensor for name, tensor in expert.tensors().items()}
        text = json.dumps(words).encode()
        return state | {"index": torch.frombuffer(bytearray(text), dtype=torch.uint8)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Hold what ``state`` holds, and nothing else.

        Raises:
            ValueError: It is no bank's state, or that of another weight.
        """
        try:
            words = json.loads(bytes(state["index"].cpu().numpy()).decode()) if state else []
            experts = [Expert.of(w, _under(state, f"{i:06d}.")) for i, w in enumerate(words)]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not the state of a bank of experts ({error})") from error
        for expert in experts:
            self._check(expert)
        for id in list(self.ids):
            self.delete(id)
        if self.shelf.folder is not None:
            self.shelf.folder.clear()
        self._foreign = False
        for expert in experts:
            self.add(expert)

    # -- private --------------------------------------------------------------------------------------------------

    def _append(self, expert: Expert) -> None:
        self.ids.append(expert.id)
        self.prompts.append(expert.prompt)
        self.neurons = torch.cat([self.neurons, expert.neuron.to(self.neurons)[None]])
        self.inputs = torch.cat([self.inputs, expert.input.to(self.inputs)[None]])
        self.lost.pop(expert.id, None)

    def _drop(self, id: str) -> None:
        at = self.ids.index(id)
        del self.ids[at], self.prompts[at]
        self.neurons = torch.cat([self.neurons[:at], self.neurons[at + 1 :]])
        self.inputs = torch.cat([self.inputs[:at], self.inputs[at + 1 :]])

    def _unless_damaged(self, id: str, get: Callable[[str], Packed]) -> Packed | None:
        try:
            return get(id)
        except DamagedExpert as error:
            self._drop(id)
            self._lose(error)
            return None

    def _readable(self, folder: Folder) -> Iterator[Expert]:
        for expert in folder.experts():
            if isinstance(expert, DamagedExpert):
                self._lose(expert)
            else:
                yield expert

    def _lose(self, error: DamagedExpert) -> None:
        _log.warning("%s", error)
        self.lost[error.id] = error.reason

    def _check(self, expert: Expert) -> None:
        size = self.neurons.shape[1]
        if expert.weight != self.weight or len(expert.neuron) != size:
            raise ValueError(
                f"the expert of edit {expert.id!r} belongs to {expert.weight} ({len(expert.neuron)} inputs); "
                f"this bank's are for {self.weight} ({size})"
            )


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}

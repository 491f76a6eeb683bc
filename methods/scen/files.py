"""A bank in a folder: one safetensors file an expert, complete, with a digest, so that a damaged one costs only itself.

Files are named "000012-<id>.safetensors": the number gives the order, and the name tells whose expert it is even when
nothing in it can be read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from editbench.atomic import replacing
from editbench.host import tensor_bytes

from .stores import Packed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

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

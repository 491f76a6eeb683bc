"""Experts, and a folder with one sealed tensor file an expert, so that a damaged file costs only its expert.

A file is named "000012-<id>.safetensors": the number gives the order, and the id is known even if nothing can be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from editbench.files import DamagedFile, check_tensors, content_digest, read_bytes, read_tensors, write_tensors
from editbench.memory_based.compression import CompressedDelta

if TYPE_CHECKING:
    from torch import Tensor

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
    compressed: CompressedDelta

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
        compressed = CompressedDelta(metadata["kind"], parts)
        texts = metadata["id"], metadata["prompt"], metadata["weight"]
        return cls(*texts, tensors["neuron"], tensors["input"], compressed)


class ExpertFiles:
    """The files of one folder by the id of their expert; adding one does not look at the others."""

    def __init__(self, path: Path) -> None:
        """Find the files that are there; makes the folder if it is missing."""
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._files = {_name_in(file): file for file in self._found()}  # by quoted id, in the order of writing
        self._next = max(map(number_of, self._files.values()), default=-1) + 1

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        """Ids with their files, in the order of writing; a very long id is cut."""
        return iter([(unquote(name), file) for name, file in self._files.items()])

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self._files.values() if file.exists())

    def of(self, id: str) -> Path | None:
        """The file of an expert, if it has one."""
        return self._files.get(_quoted(id))

    def write(self, experts: Sequence[Expert]) -> list[Path]:
        """Write new files, all or none; they count once :meth:`take` was called for them."""
        files: list[Path] = []
        try:
            for number, expert in enumerate(experts, self._next):
                files.append(self.path / f"{number:06d}-{_quoted(expert.id)}.safetensors")
                write_tensors(files[-1], expert.tensors(), expert.metadata())
        except BaseException:
            for file in files:
                file.unlink(missing_ok=True)
            raise
        self._next += len(files)
        return files

    def take(self, id: str, file: Path) -> None:
        """Let a file be that of an expert, in place of an older one."""
        if self.of(id) != file:
            self.remove(id)
        self._files[_quoted(id)] = file

    def remove(self, id: str) -> None:
        """Delete the file of an expert, if there is one."""
        file = self._files.pop(_quoted(id), None)
        if file is not None:
            file.unlink(missing_ok=True)

    def clear(self, keep: Mapping[str, str]) -> dict[str, Path]:
        """Take no file any more, and delete those but the ones ``keep`` has digests for, by id; returns these by id.

        A DamagedFile, before anything is deleted, names one with another digest.
        """
        kept: dict[str, Path] = {}
        for id, digest in keep.items():
            file = self.of(id)
            if file is not None:
                if check_tensors(read_bytes(file), str(file))[1] != digest:
                    raise DamagedFile(f"{file} is damaged: it is not the expert that the run wrote for edit {id!r}")
                kept[id] = file
        self._files.clear()
        for file in {*self._found()} - {*kept.values()}:
            file.unlink()
        return kept

    def _found(self) -> list[Path]:
        return sorted(self.path.glob("[0-9]*-*.safetensors"), key=number_of)


def read_expert(file: Path) -> Expert:
    """The expert in a file; a DamagedFile if it is not the one that the name says."""
    tensors, metadata = read_tensors(file)
    try:
        expert = Expert.of(metadata, tensors)
    except KeyError as error:
        raise DamagedFile(f"{file} is damaged: it holds no {error}") from error
    if _name_in(file) != _quoted(expert.id):
        raise DamagedFile(f"{file} is damaged: it holds the expert of edit {expert.id!r}")
    return expert


def number_of(file: Path) -> int:
    """The number in a file's name."""
    return int(file.name.partition("-")[0])


def _name_in(file: Path) -> str:
    """The quoted id in a file's name."""
    return file.stem.partition("-")[2]


def _quoted(id: str) -> str:
    """An id as part of a file name; a long one is cut and gets a digest."""
    name = quote(id, safe="")
    if len(name) <= MAX_NAME_LENGTH:
        return name
    return f"{name[:MAX_NAME_LENGTH]}~{hashlib.blake2b(id.encode(), digest_size=8).hexdigest()}"

"""Trained networks as files: by content in the cache, and shipped with a method; each says what it was trained on."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.files import DamagedFile, canonical, decode_tensors, read_bytes
from editbench.model.language_model import tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from editbench.model.language_model import LanguageModel

VERSION = 1
"""Changes with what the same training gives."""
FOLDER = "networks"  # in the cache, and in a method's package
RECORDS = "records"  # the fact that a caller without training records does not know


@dataclass(frozen=True)
class TrainedNetwork:
    """A file of a trained network.

    Attributes:
        tensors: Its numbers by name.
        facts: What decided its training ("key"), its records' hashes, its seconds and its history.
        digest: Of the content.
        name: Path in the cache, or from the package's folder.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    digest: str
    name: str


def key_of(deciding: Mapping[str, Any]) -> str:
    """Name of a network by all that decides its training, as JSON types."""
    return hashlib.blake2b(canonical(dict(deciding)), digest_size=16).hexdigest()


def weights_digest(lm: LanguageModel, modules: Iterable[str]) -> str:
    """Digest of the model's embeddings and edited weights, with their dtype; whatever library has read its config."""
    digest = hashlib.blake2b(digest_size=16)
    weights = {"embedding": lm.model.get_input_embeddings().weight.data}
    weights |= {name: lm.weight(f"{name}.weight") for name in modules}
    for name, weight in weights.items():
        digest.update(f"{name}:{weight.dtype}:{tuple(weight.shape)};".encode())
        digest.update(tensor_bytes(weight))
    return digest.hexdigest()


def cached_file(cache: Path, deciding: Mapping[str, Any]) -> Path:
    """Place of a network in the cache."""
    return cache / FOLDER / f"{key_of(deciding)}.safetensors"


def read(file: Path) -> TrainedNetwork:
    """The network in a file; a DamagedFile if it holds none."""
    tensors, facts, digest = decode_tensors(read_bytes(file), str(file))
    if "key" not in facts:
        raise DamagedFile(f"{file} is no trained network; make one with editbench train --out")
    return TrainedNetwork(tensors, facts, digest, f"{FOLDER}/{file.name}")


def find(cache: Path | None, shipped: Path, deciding: Mapping[str, Any]) -> TrainedNetwork | None:
    """The network that was trained so: of the cache, or else of the package's folder; None without one.

    Where ``deciding`` has no records, as outside a run, a shipped one of any records is taken.
    """
    if cache is not None and (file := cached_file(cache, deciding)).is_file():
        try:
            return read(file)
        except DamagedFile as error:
            warnings.warn(f"the trained network {file} is damaged ({error}); train it again", stacklevel=2)
    return next((one for one in _shipped(shipped) if _fits(one.facts["key"], deciding)), None)


def _shipped(folder: Path) -> Iterator[TrainedNetwork]:
    return map(read, sorted(folder.glob("*.safetensors")))


def _fits(trained: Mapping[str, Any], deciding: Mapping[str, Any]) -> bool:
    left_out = () if deciding[RECORDS] is not None else (RECORDS,)
    return all(trained.get(name) == value for name, value in deciding.items() if name not in left_out)

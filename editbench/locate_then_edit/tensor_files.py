"""Safetensors files with a digest, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from editbench.files import replacing
from editbench.model.language_model import tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


class DamagedFile(ValueError):
    """A file that is no safetensors file, or whose content is not what was written."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write ``tensors`` and ``metadata`` with a digest of both."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, str(temporary), metadata={**metadata, "digest": _digest(tensors, metadata)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a file that :func:`write_tensors` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFile: It is not as it was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as handle:
            metadata: dict[str, str] = dict(handle.metadata() or {})
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error
    if metadata.pop("digest", None) != _digest(tensors, metadata):
        raise DamagedFile(f"{path} is damaged: its digest is not that of its content")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.blake2b(json.dumps(dict(metadata), sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()

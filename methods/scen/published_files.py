"""Experts and indexing neurons of SCEN's own code as a bank.

That code saves with ``torch.save``: a tensor, a parameter, or a state dict that holds it; experts as
``expert_learning_weight<number>.pt`` or ``expert_<number>.pt``, neurons as ``expert_router<number>.pt``. Files are read
with ``weights_only=True``: nothing in them is run. The edits' prompts and the base weight are not in them, and come
from the data and the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.memory_based.compression import CompressedDelta

from .expert_files import Expert

if TYPE_CHECKING:
    from editbench.records import EditRequest

    from .editor import SCEN

EXPERT = re.compile(r"expert(?:_learning_weight|_)?(\d+)\.pt")
NEURON = re.compile(r"(?:expert_router|(?!expert).*?)(\d+)\.pt")


def import_published(editor: SCEN, requests: Sequence[EditRequest], experts: Path, neurons: Path) -> None:
    """Add published experts to the editor's bank, in the order of their numbers, which is that of ``requests``.

    ``experts`` is a folder of projections (d, d_ff), whole as published. ``neurons`` is a folder with a file (d_ff,) or
    (1, d_ff) an edit, or one file (N, d_ff). A ValueError names the file that does not fit, before anything is added.
    """
    base = editor.lm.weight(editor.bank.weight).detach()  # (d, d_ff)
    projections = [_tensor(file, tuple(base.shape)) for file in _numbered(experts, EXPERT)]
    rows = _neurons(neurons, base.shape[1])  # (N, d_ff)
    if not len(projections) == len(rows) == len(requests):
        raise ValueError(
            f"{experts} has {len(projections)} experts and {neurons} {len(rows)} neurons for {len(requests)} edits; "
            "give the records of the published stream, in its order and no others"
        )
    inputs, like = editor.inputs([request.prompt for request in requests]), editor.bank.inputs
    found = []
    for request, projection, neuron, x in zip(requests, projections, rows.to(like), inputs, strict=True):
        delta = CompressedDelta("dense", {"delta": (projection.to(base).float() - base.float()).to(base.dtype)})
        found.append(Expert(request.id, request.prompt, editor.bank.weight, neuron, x, delta))
    editor.bank.extend(found)


def _neurons(place: Path, size: int) -> Tensor:
    if place.is_file():
        return _tensor(place, (None, size))
    return torch.stack([_tensor(file, (1, size), (size,)).reshape(size) for file in _numbered(place, NEURON)])


def _numbered(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Files of a folder by the number in their names."""
    found = {int(match[1]): file for file in folder.glob("*.pt") if (match := pattern.fullmatch(file.name))}
    if not found:
        raise ValueError(f"{folder} has no file named like {pattern.pattern}; name the folder of the published files")
    return [found[number] for number in sorted(found)]


def _tensor(file: Path, *shapes: tuple[int | None, ...]) -> Tensor:
    """The only tensor in a file that has one of these shapes (None: any length)."""
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names what it refuses in many classes
        raise ValueError(f"{file} cannot be read as tensors alone ({type(error).__name__}: {error})") from error
    every = list(content.values()) if isinstance(content, Mapping) else [content]
    tensors = [one for one in every if isinstance(one, Tensor)]
    fitting = [one for one in tensors if any(_fits(one, shape) for shape in shapes)]
    if len(fitting) != 1:
        sizes = ", ".join(str(tuple(one.shape)) for one in tensors) or "no tensor"
        wanted = " or ".join(str(shape) for shape in shapes)
        raise ValueError(f"{file} has {sizes}; it must have one tensor {wanted}: is it of this model and layer?")
    return fitting[0].detach()


def _fits(tensor: Tensor, shape: tuple[int | None, ...]) -> bool:
    pairs = zip(tensor.shape, shape, strict=True) if tensor.dim() == len(shape) else [(0, 1)]
    return all(want in (None, have) for have, want in pairs)

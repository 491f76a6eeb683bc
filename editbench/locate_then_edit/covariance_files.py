"""Files of covariance that people share: sealed ones of editbench, and the .npz files of ROME's and MEMIT's code.

A shared file is a sealed tensor file (`editbench.files`) with a float64 matrix (d_ff, d_ff) a layer, keyed by the
layer's number, and the metadata ``model``, ``model_hash``, ``texts`` (names of the model and of the texts' source, and
the hash as in runs; None where unknown) and ``tokens`` (by layer).
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editbench.fetched import cache_folder, usable_cache
from editbench.files import SEAL_KEY, content_digest, decode_tensors, read_tensors, write_tensors

FOLDER = "covariance"  # in the cache
Shared = tuple[dict[str, Tensor], dict[str, Any]]  # matrices by layer, and the metadata
_LAYER = re.compile(
    r"\.(\d+)\."
)  # in the name of a published file: "transformer.h.17.mlp.c_proj_float32_mom2_100000.npz"

SUM, COUNT = "mom2.mom2", "mom2.count"  # fields of a published file
ROWS_AT_ONCE = 1 << 10  # of a matrix that is checked
ASYMMETRY = 1e-3  # of the largest number: sums in half precision are less symmetric than that


def read_shared(path: Path) -> Shared:
    """Matrices and metadata of a file; a safetensors file that is not sealed, which the user made, has no metadata."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    if path.suffix == ".npz":
        return _read_npz(path)
    try:
        with safe_open(str(path), "pt") as file:
            sealed = SEAL_KEY in (file.metadata() or {})
        return read_tensors(path) if sealed else (by_layer(load_file(str(path)), str(path)), {})
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error


def _read_npz(path: Path) -> Shared:
    """Matrix and metadata of a file of ROME's and MEMIT's code: the sum ``mom2.mom2`` of so many tokens ``mom2.count``.

    The layer is in the file's name, model and texts are in those of its folders (``gpt2-xl/wikipedia_stats``).
    """
    import numpy as np

    named = _LAYER.search(path.name)
    if named is None:
        raise ValueError(f"{path}: no layer in the file's name; it must be like transformer.h.17.mlp.c_proj_….npz")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no file of covariance: it is not of numpy's format, or not whole; copy it again")
    try:
        with np.load(path, allow_pickle=False) as file:
            if absent := [key for key in (SUM, COUNT) if key not in file]:
                raise ValueError(f"it has no {absent[0]}; it has {', '.join(file) or 'nothing'}")
            total, counted = file[SUM], file[COUNT]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no file of covariance with {SUM} and {COUNT}: {error}") from error
    count = counted.item() if counted.size == 1 else None
    if not (isinstance(count, (int, float)) and count >= 1 and count == int(count)):
        shown = count if counted.size == 1 else f"an array of shape {counted.shape}"
        raise ValueError(f"{path}: {COUNT} is {shown}; it must be the number of tokens, at least 1")
    matrix = check_matrix(total, f"{path}: {SUM}").double()
    folder = path.resolve().parent
    about: dict[str, str | None] = {"model": None, "model_hash": None, "texts": None}
    if folder.name.endswith("_stats"):
        about |= {"model": folder.parent.name, "texts": folder.name.removesuffix("_stats")}
    return {named[1]: matrix / count}, {**about, "tokens": {named[1]: int(count)}}


def by_layer(given: Mapping[Any, Any], where: str) -> dict[str, Tensor]:
    """Matrices that a user made, checked, by their layers; ``where`` they are begins each error.

    A key is a layer's number, as number or text, or a module's name ("model.layers.5.mlp.down_proj").
    """
    found: dict[str, Tensor] = {}
    for key, matrix in given.items():
        text = str(key)
        layers = [text] if text.isdecimal() else _LAYER.findall(f"{text}.")
        if len(layers) != 1:
            shape = tuple(getattr(matrix, "shape", ()))
            raise ValueError(f"{where}: the key {key!r} of a matrix {shape} names no layer; give its number")
        layer = str(int(layers[0]))
        if layer in found:
            raise ValueError(f"{where}: {key!r} is a second matrix of layer {layer}; give each layer once")
        found[layer] = check_matrix(matrix, f"{where}: {key!r}")
    return found


def check_matrix(given: Any, what: str) -> Tensor:
    """A user's matrix, of torch or numpy; a ValueError begins with ``what`` it is.

    It must be square, real, finite and symmetric: a Cholesky factor reads one half alone.
    """
    import numpy as np

    matrix = torch.from_numpy(given) if isinstance(given, np.ndarray) and given.dtype.kind in "fiuc" else given
    if not isinstance(matrix, Tensor) or matrix.is_complex() or matrix.dtype == torch.bool:
        kind = str(getattr(given, "dtype", type(given).__name__)).removeprefix("torch.")
        raise ValueError(f"{what} holds {kind}; it must be a matrix of real numbers, of torch or numpy")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{what} is {tuple(matrix.shape)}; it must be a square matrix")
    off, largest = 0.0, 0.0
    for start in range(0, len(matrix), ROWS_AT_ONCE):
        rows = matrix[start : start + ROWS_AT_ONCE].float()
        if not bool(rows.isfinite().all()):
            raise ValueError(f"{what} {tuple(matrix.shape)} holds NaN or infinite values; take it again")
        off = max(off, float((rows - matrix[:, start : start + ROWS_AT_ONCE].T.float()).abs().max()))
        largest = max(largest, float(rows.abs().max()))
    if off > ASYMMETRY * largest:
        raise ValueError(
            f"{what} {tuple(matrix.shape)} is not symmetric: two of its halves' numbers differ by {off:.3g}, the "
            f"largest is {largest:.3g}; a covariance is E[x xᵀ], so give both halves"
        )
    return matrix


def existing(path: Path) -> Path:
    """A path as it is; a FileNotFoundError if it is none of a file."""
    if path.is_dir():
        raise FileNotFoundError(
            f"no covariance at {path}: it is a folder; give a file (`editbench covariance import` makes one of several)"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no covariance at {path}: there is no such file")
    return path


def import_files(files: Iterable[Path], out: Path | None = None) -> Path:
    """Check files, put their layers into one sealed file, and print how to use it. The default place is the cache."""
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Any] = {}
    for path in files:
        matrices, about = read_shared(existing(path))
        if twice := sorted(set(matrices) & set(tensors), key=int):
            raise ValueError(f"{path}: layer {twice[0]} is in an earlier file, too; give each layer once")
        about = about or {"model": None, "model_hash": None, "texts": None, "tokens": {}}
        if differ := [key for key in ("model", "model_hash", "texts") if facts and facts[key] != about[key]]:
            raise ValueError(
                f"{path}: its {differ[0]} is {about[differ[0]]}, not {facts[differ[0]]} as in earlier files"
            )
        tensors |= {layer: matrix.double() for layer, matrix in matrices.items()}
        facts = {**about, "tokens": {**facts.get("tokens", {}), **about["tokens"]}}
    if out is None:
        name = f"imported-{content_digest(tensors, facts)[:16]}.safetensors"
        out = usable_cache(cache_folder()) / FOLDER / name
        out.parent.mkdir(parents=True, exist_ok=True)
    return _write(out, tensors, facts)


def export(source: str, out: Path, texts: str | None = None) -> Path:
    """Write the covariance of a run, or of a model, from the cache to one sealed file.

    Args:
        source: A run's folder, or a model as ``model.path`` takes it.
        out: The file to write.
        texts: Of a model whose covariance was taken over several texts: the key of one, as the error lists them.
    """
    run = Path(source)
    cached, facts = _of_run(run) if (run / "chain.jsonl").is_file() else _of_model(source, texts)
    tensors: dict[str, Tensor] = {}
    tokens = {}
    for layer, (file, digest) in sorted(cached.items()):
        if not file.is_file():
            raise FileNotFoundError(f"{file} is no longer in the cache; run again what computed it")
        matrices, about, found = decode_tensors(file.read_bytes(), str(file))
        if digest not in (None, found):
            raise ValueError(f"{file} is not the file that {run} used: its digest is {found}")
        tensors[str(layer)], tokens[str(layer)] = matrices["covariance"], about["tokens"]
        facts["texts"] = about.get("texts") or facts.get("texts")
    return _write(out, tensors, {**facts, "tokens": tokens})


def _write(out: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Path:
    if not tensors:
        raise ValueError(f"there is no layer to write to {out}")
    if out.suffix == ".npz":  # which model.covariance reads as one of ROME's and MEMIT's files
        raise ValueError(f"{out}: what is written is a safetensors file; call it {out.with_suffix('.safetensors')}")
    digest = write_tensors(out, tensors, facts)
    layers = ", ".join(sorted(tensors, key=int))
    counts = ", ".join(f"{count:,}" for count in sorted(set(facts["tokens"].values()))) or "an unknown number of"
    model, texts = facts["model"] or "a model without a name", facts["texts"] or "text"
    print(f"layers {layers} of {model}, over {counts} tokens of {texts}")
    print(f"content digest {digest}")
    print(f"use it with: model.covariance={out}")
    return out


Cached = dict[int, tuple[Path, str | None]]  # by layer: file in the cache, and its digest where that is known


def _of_run(run: Path) -> tuple[Cached, dict[str, Any]]:
    """The files that the run's chain names."""
    found: Cached = {}
    for line in (run / "chain.jsonl").read_text(encoding="utf-8").splitlines():
        for name, digest in json.loads(line).get("cached", {}).items():
            if name.startswith(f"{FOLDER}/"):
                file = cache_folder() / name
                found[_layer_of(file)] = file, str(digest)
    if not found:
        raise ValueError(
            f"{run} used no covariance from the cache: its method needs none, or model.covariance was given"
        )
    model = json.loads((run / "run.json").read_text(encoding="utf-8"))["provenance"]["model"]
    return found, {"model": model["name"], "model_hash": model["hash"]}


def _of_model(source: str, texts: str | None) -> tuple[Cached, dict[str, Any]]:
    """The files of a model's weights in the cache; several collections of texts must be told apart."""
    from editbench.model.language_model import load_model

    lm = load_model(source)
    sets: dict[str, Cached] = {}
    for file in sorted((cache_folder() / FOLDER).glob(f"{lm.fingerprint}-*/layer-*.safetensors")):
        sets.setdefault(file.parent.name.partition("-")[2], {})[_layer_of(file)] = file, None
    chosen = {key: files for key, files in sets.items() if texts is None or key.startswith(texts)}
    if not sets:
        remedy = "do a run that needs it first, or: editbench precompute method=memit precompute.find_values=false"
        raise ValueError(
            f"no covariance of {lm.name} is in the cache {cache_folder() / FOLDER}; {remedy} model={lm.name}"
        )
    if len(chosen) != 1:
        listed = "".join(f"\n  --texts {key[:8]}  {_described(files)}" for key, files in sets.items())
        raise ValueError(f"the cache has several of {lm.name}; choose one, or export a run:{listed}")
    (files,) = chosen.values()
    return files, {"model": lm.name, "model_hash": lm.fingerprint}


def _described(files: Cached) -> str:
    file = next(iter(files.values()))[0]
    facts = read_tensors(file)[1]
    layers = ", ".join(map(str, sorted(files)))
    return f"{facts['tokens']:,} tokens of {facts.get('texts') or 'text'}, layers {layers}"


def _layer_of(file: Path) -> int:
    return int(file.stem.removeprefix("layer-"))

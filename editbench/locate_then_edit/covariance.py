"""Covariance C = E[x xᵀ] of the MLP's second projection's input over plain text, for several layers in one pass."""

from __future__ import annotations

import hashlib
import json
import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.costs import COVARIANCE, CachedCosts
from editbench.files import DamagedFile, decode_tensors, one_at_a_time, write_tensors
from editbench.locate_then_edit.covariance_files import by_layer, existing, read_shared
from editbench.model.batching import PaddedBatch, batches
from editbench.model.devices import device_with_room, in_float64
from editbench.model.hooks import hooked
from editbench.model.output_head import at_least_float32
from editbench.model.partial_forward import run_layers
from editbench.progress import progress

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.resources import Resources


_log = logging.getLogger(__name__)

VERSION = 2
"""Changes with the sums that are collected."""

FORMAT = 2
"""Changes with the layout of the cached files."""

TOKENS_AT_ONCE = 1 << 12
MOVED_NUMBERS = 1 << 24  # of a product that is moved to another device at once: 64 MiB of float32
SUM_MATRICES = 3  # the sum, a product, and the mean in the end

LOCK = "lock"  # file of the one process that collects

MIN_INTERVAL = 5.0  # seconds between two savings of the sums, at least; from them a stopped collection goes on
MAX_SHARE = 1 / 20  # saving takes at most this share of the time


def matrix_device(lm: LanguageModel, layer: int, matrices: int) -> torch.device:
    """Where so many float64 matrices (d_ff, d_ff) of a layer are kept: on its device if they have room, or the CPU."""
    return device_with_room(lm.device_of(lm.mlp_out(layer)), matrices * lm.d_ff(layer) ** 2 * 8)


@dataclass
class _Sum:
    """Running sum of x xᵀ of one layer (d_ff, d_ff), float64, over so many batches of the texts.

    ``seconds`` are its share of the passes, ``earlier`` of them by a process that was stopped.
    """

    total: Tensor
    tokens: int = 0
    batches: int = 0
    seconds: float = 0.0
    earlier: float = 0.0


def covariance_for(
    lm: LanguageModel, layers: Sequence[int], resources: Resources, max_tokens: int | None
) -> dict[int, Tensor]:
    """C for each of ``layers`` in float64: given, from the user's file, or collected from the texts."""
    r, given = resources, resources.covariance
    if given is None:
        return compute_covariance(
            lm, r.texts, layers, max_tokens=max_tokens, cache=r.cache, costs=r.costs, texts_name=r.texts_name
        )
    if isinstance(given, (str, Path)):
        have = read_covariance(given, layers, lm, r.costs)
    elif isinstance(given, Mapping):
        have = {int(layer): matrix for layer, matrix in by_layer(given, "covariance of Resources").items()}
    else:
        raise TypeError(f"covariance of Resources is {type(given).__name__}; give matrices by layer, or a file's path")
    out = {}
    for layer in layers:
        if layer not in have:
            raise ValueError(f"no covariance was given for layer {layer} (given: {sorted(have)})")
        size = lm.d_ff(layer)
        if tuple(have[layer].shape) != (size, size):
            raise ValueError(f"covariance of layer {layer} is {tuple(have[layer].shape)}; it must be ({size}, {size})")
        out[layer] = in_float64(have[layer])
    return out


def read_covariance(
    file: Path | str, layers: Sequence[int], lm: LanguageModel | None = None, costs: CachedCosts | None = None
) -> dict[int, Tensor]:
    """C in float64 from a safetensors file, one (d_ff, d_ff) tensor a layer, or a published .npz.

    Keys are those of :func:`editbench.locate_then_edit.covariance_files.by_layer`.

    A sealed one (:mod:`editbench.locate_then_edit.covariance_files`) is checked; it names its model, of which another
    than ``lm`` is warned, and its tokens, which ``costs`` gets.
    """
    path = Path(file).expanduser()
    tensors, facts = read_shared(existing(path))
    if lm is not None and facts.get("model_hash") not in (None, lm.fingerprint):
        _log.warning(
            "%s was taken on %s, and not on these weights of %s (hash %.12s, here %.12s)",
            *(path, facts.get("model"), lm.name, facts["model_hash"], lm.fingerprint),
        )
    tokens = [count for layer, count in facts.get("tokens", {}).items() if int(layer) in layers]
    if costs is not None and tokens:
        costs.covariance_tokens = min(tokens)
    missing = [layer for layer in layers if str(layer) not in tensors]
    if missing:
        raise ValueError(
            f"{path} holds covariance for the layers {', '.join(sorted(tensors))}, none for "
            f"{', '.join(map(str, missing))}; `editbench covariance import` makes one file of several"
        )
    return {layer: tensors[str(layer)].double() for layer in layers}


def compute_covariance(
    lm: LanguageModel,
    texts: Sequence[str],
    layers: Sequence[int],
    *,
    max_tokens: int | None = None,
    cache: Path | None = None,
    costs: CachedCosts | None = None,
    texts_name: str = "",
) -> dict[int, Tensor]:
    """C for each of ``layers``, float64 (d_ff, d_ff); on the layer's device, or on the CPU: cached, without room there.

    Every non-padding token counts, BOS included; C is not centred. All layers are collected in one pass over the text,
    which stops at the last of them. Products are formed in float32 (float64 for a float64 model) and summed in float64.

    Args:
        texts: Plain texts; longer ones are cut to the model's length.
        max_tokens: Stop after the text that reaches this many tokens; None takes all.
        cache: Folder of the content-addressed cache; None for none.
        costs: Gets the tokens, the seconds, which layers of one pass share equally, and the cached files' digests.
        texts_name: Kept in the cached files, for whoever looks for one.
    """
    wanted = sorted(set(layers))
    planned, key = _plan(lm, texts, max_tokens)
    costs = costs or CachedCosts()
    if cache is None:
        return _computed(lm, planned, wanted, None, costs, texts_name)
    folder = cache / "covariance" / f"{lm.fingerprint}-{key}"
    found = _read_cached(folder, wanted, costs)
    if missing := [layer for layer in wanted if layer not in found]:
        costs.missing(COVARIANCE, f"{lm.fingerprint}-{key} {missing}")
        folder.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder / LOCK, f"the covariance of {lm.name}"):
            found |= _read_cached(folder, missing, costs)  # of a process that was waited for
            missing = [layer for layer in missing if layer not in found]
            found |= _computed(lm, planned, missing, folder, costs, texts_name)
    return {layer: found[layer] for layer in wanted}


def _computed(
    lm: LanguageModel,
    planned: list[list[list[int]]],
    layers: list[int],
    folder: Path | None,
    costs: CachedCosts,
    texts_name: str,
) -> dict[int, Tensor]:
    """C of layers, collected in one pass and put into the folder."""
    if not layers:
        return {}
    found, sums = {}, _collect(lm, planned, layers, folder)
    costs.note(COVARIANCE, sum(s.seconds - s.earlier for s in sums.values()), read=False)
    if earlier := sum(s.earlier for s in sums.values()):
        costs.note(COVARIANCE, earlier, read=True)
    for layer, one in sums.items():
        costs.covariance_tokens = one.tokens
        found[layer] = one.total.div_(one.tokens)  # in place: a sum is as large as a model's layer
        if not bool(found[layer].isfinite().all()):
            raise ValueError(
                f"the covariance of layer {layer} of {lm.name} is NaN or infinite: activations overflow in "
                f"{lm.model.dtype}; load the model with another dtype"
            )
        if folder is not None:
            file = _file(folder, layer)
            facts = {"tokens": one.tokens, "seconds": one.seconds, "texts": texts_name}
            costs.digests[_name(file)] = write_tensors(file, {"covariance": found[layer]}, facts)
            _partial_file(folder, layer).unlink(missing_ok=True)
    return found


def _plan(lm: LanguageModel, texts: Sequence[str], max_tokens: int | None) -> tuple[list[list[list[int]]], str]:
    """Token rows in batches of similar length, and a digest of these and of what runs them."""
    rows, tokens = [], 0
    digest = hashlib.blake2b(json.dumps([VERSION, FORMAT, lm.numerics]).encode(), digest_size=16)
    for ids in (lm.encode(text).ids[: lm.max_length] for text in texts):
        if not ids:
            continue
        rows.append(ids)
        digest.update(json.dumps(ids).encode())
        tokens += len(ids)
        if max_tokens is not None and tokens >= max_tokens:
            break
    if not rows:
        raise ValueError(
            "a covariance needs plain text, and none was given: set model.texts, or give model.covariance; in Python "
            "give the editor resources=Resources(texts=[…])"
        )
    return list(batches(rows, TOKENS_AT_ONCE, width=len, longest_first=False)), digest.hexdigest()


@torch.no_grad()
def _collect(
    lm: LanguageModel, planned: list[list[list[int]]], layers: list[int], folder: Path | None
) -> dict[int, _Sum]:
    """Sums of all batches by layer; each layer goes on from its own saved sum."""
    sums = {layer: _resumed(lm, layer, folder) for layer in layers}
    first = min(one.batches for one in sums.values())
    began = saved = time.perf_counter()
    saving = 0.0
    with progress("covariance", sum(map(len, planned)), sum(map(len, planned[:first]))) as advance:
        for index, batch in enumerate(planned[first:], first):
            going = {layer: one for layer, one in sums.items() if one.batches == index}
            _add_batch(lm, batch, going)
            now = time.perf_counter()
            for one in going.values():
                one.seconds += (now - began) / len(going)
            began = now
            advance(len(batch))
            if folder is not None and now - saved >= max(MIN_INTERVAL, saving / MAX_SHARE):
                _save(sums, folder)
                saved = time.perf_counter()
                saving = saved - now
    return sums


def _add_batch(lm: LanguageModel, rows: list[list[int]], sums: dict[int, _Sum]) -> None:
    batch = PaddedBatch.pad(rows, [0] * len(rows), lm.pad_id, lm.device)
    mask = batch.mask.bool()

    def add(layer: int, x: Tensor) -> None:
        inputs = at_least_float32(x.reshape(*mask.shape, -1)[mask.to(x.device)])  # (tokens, d_ff)
        _add_products(sums[layer].total, inputs)

    with ExitStack() as stack:
        for layer in sums:
            stack.enter_context(hooked(lm.mlp_out(layer), partial(add, layer), inputs=True))
        run_layers(lm, batch, last=max(sums))
    for one in sums.values():
        one.tokens += sum(len(row) for row in rows)
        one.batches += 1


def _add_products(total: Tensor, inputs: Tensor) -> None:
    """Add XᵀX of X (tokens, d_ff): a product on the device of X, and a few rows of it at a time to a sum elsewhere."""
    if total.device == inputs.device:
        total += inputs.T @ inputs
        return
    size = max(1, MOVED_NUMBERS // len(total))
    for start in range(0, len(total), size):
        rows = slice(start, start + size)
        total[rows] += (inputs[:, rows].T @ inputs).to(total.device)


def _save(sums: dict[int, _Sum], folder: Path) -> None:
    """Save the sums, a file a layer: a stop in between leaves some older ones, which are sound too."""
    for layer, one in sums.items():
        facts = {"tokens": one.tokens, "batches": one.batches, "seconds": one.seconds}
        write_tensors(_partial_file(folder, layer), {"sum": one.total}, facts)


def _resumed(lm: LanguageModel, layer: int, folder: Path | None) -> _Sum:
    """The saved sum of a layer, or an empty one; warns of a damaged file."""
    device, size = matrix_device(lm, layer, SUM_MATRICES), lm.d_ff(layer)
    if folder is not None:
        file = _partial_file(folder, layer)
        try:
            tensors, facts, _ = decode_tensors(file.read_bytes(), str(file))
            return _Sum(tensors["sum"].to(device), **facts, earlier=facts["seconds"])
        except FileNotFoundError:  # also where another process has just finished
            pass
        except (DamagedFile, KeyError, TypeError) as error:
            warnings.warn(f"the saved sums {file} are damaged ({error}) and are collected again", stacklevel=2)
    return _Sum(torch.zeros(size, size, dtype=torch.float64, device=device))


def _file(folder: Path, layer: int) -> Path:
    return folder / f"layer-{layer:03d}.safetensors"


def _partial_file(folder: Path, layer: int) -> Path:
    return folder / f"partial-{layer:03d}.safetensors"


def _name(file: Path) -> str:
    """Path from the cache's folder."""
    return f"covariance/{file.parent.name}/{file.name}"


def _read_cached(folder: Path, layers: list[int], costs: CachedCosts) -> dict[int, Tensor]:
    found = {}
    for file, layer in ((_file(folder, layer), layer) for layer in layers):
        if file.is_file():
            try:
                tensors, facts, digest = decode_tensors(file.read_bytes(), str(file))
                found[layer], seconds = tensors["covariance"], float(facts["seconds"])
            except (DamagedFile, KeyError) as error:
                warnings.warn(f"the cached covariance {file} is damaged ({error}) and is computed again", stacklevel=2)
                continue
            costs.note(COVARIANCE, seconds, read=True)
            costs.covariance_tokens = int(facts["tokens"])
            costs.digests[_name(file)] = digest
    return found

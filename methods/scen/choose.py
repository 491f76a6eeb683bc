"""Which store an expert gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .stores import (
    Packed,
    pack_dense,
    pack_lowrank,
    pack_quantised,
    quantised_bytes,
)

if TYPE_CHECKING:
    from torch import Tensor

    from .config import SCENConfig
    from .experts import Lessons

BITS = (2, 4, 8)


def pack(lessons: Lessons, deltas: Tensor, config: SCENConfig) -> list[Packed]:
    """Put trained experts (B, d, d_ff) into the config's store."""
    if config.expert_store == "auto":
        return _smallest(lessons, deltas, config)
    return [_pack(lessons, deltas[i], i, config.expert_store, config) for i in range(len(lessons))]


def _pack(lessons: Lessons, delta: Tensor, edit: int, store: str, config: SCENConfig) -> Packed:
    if store == "lowrank":
        return pack_lowrank(delta, lessons.own_inputs(edit), config.rank_error)
    if store.startswith("quantised"):
        return pack_quantised(delta, int(store.removeprefix("quantised") or config.bits))
    return pack_dense(delta, lessons.inputs.dtype)


@torch.no_grad()
def _smallest(lessons: Lessons, deltas: Tensor, config: SCENConfig) -> list[Packed]:
    """For each expert the smallest store that keeps every argmax of its answer, and its loss within the margin.

    The stores are tried from small to large, the next one for all edits at once that are not served yet.
    """
    dense = [pack_dense(delta, lessons.inputs.dtype) for delta in deltas]
    thin = [_pack(lessons, delta, i, "lowrank", config) for i, delta in enumerate(deltas)]
    sizes = {f"quantised{bits}": quantised_bytes(deltas[0].shape, bits) for bits in BITS}
    ladders = [
        sorted(({"lowrank": small.nbytes} | sizes).items(), key=lambda item: item[1]) for small in thin
    ]  # (store, bytes) of each edit, ascending
    loss, best = lessons.answers(torch.stack([p.delta(deltas.dtype) for p in dense]))
    found: dict[int, Packed] = {}
    for step in range(len(sizes) + 1):
        tried = {
            i: thin[i] if ladder[step][0] == "lowrank" else _pack(lessons, deltas[i], i, ladder[step][0], config)
            for i, ladder in enumerate(ladders)
            if i not in found and ladder[step][1] < dense[i].nbytes
        }
        if not tried:
            break
        trial = torch.stack([tried.get(i, dense[i]).delta(deltas.dtype) for i in range(len(lessons))])
        new_loss, new_best = lessons.answers(trial)
        changed = torch.zeros_like(loss).index_add(0, lessons.edit_of.to(loss.device), (new_best != best).to(loss))
        good = (changed == 0) & (new_loss <= loss + config.loss_margin)
        found |= {i: packed for i, packed in tried.items() if bool(good[i])}
    return [found.get(i, dense[i]) for i in range(len(lessons))]

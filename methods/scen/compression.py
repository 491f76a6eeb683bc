"""The store of each expert: as the config says, or the smallest that keeps its answer."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

import torch

from editbench.memory_based.compression import BITS, CompressedDelta, dense, low_rank, quantised, quantised_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from .config import SCENConfig
    from .training import ExpertBatch


def compress(batch: ExpertBatch, deltas: Tensor, config: SCENConfig) -> list[CompressedDelta]:
    """Compress trained experts (B, d, d_ff) as ``config.expert_store`` says."""
    if config.expert_store == "auto":
        return _smallest(batch, deltas, config)
    if config.expert_store == "lowrank":
        return [low_rank(delta, batch.own_inputs(i), config.rank_error) for i, delta in enumerate(deltas)]
    if config.expert_store == "quantised":
        return [quantised(delta, config.bits) for delta in deltas]
    return [dense(delta, batch.inputs.dtype) for delta in deltas]


@torch.no_grad()
def _smallest(batch: ExpertBatch, deltas: Tensor, config: SCENConfig) -> list[CompressedDelta]:
    """For each expert the smallest store that keeps every argmax of its answer, and its loss within the margin."""
    whole = [dense(delta, batch.inputs.dtype) for delta in deltas]
    by_size: list[list[tuple[int, CompressedDelta | int]]] = []  # bytes, and the low-rank expert or bits, by edit
    for i, delta in enumerate(deltas):
        factored = low_rank(delta, batch.own_inputs(i), config.rank_error)
        stores: list[tuple[int, CompressedDelta | int]] = [(factored.nbytes, factored)]
        stores += [(quantised_bytes(delta.shape, bits), bits) for bits in BITS]
        by_size.append(sorted(stores, key=itemgetter(0)))
    loss, best = batch.answers(torch.stack([expert.delta(deltas.dtype) for expert in whole]))
    chosen: dict[int, CompressedDelta] = {}
    for step in range(len(BITS) + 1):  # from small to large, all edits together that have no store yet
        tried = {
            i: quantised(deltas[i], kept) if isinstance(kept, int) else kept
            for i, (size, kept) in enumerate(edit[step] for edit in by_size)
            if i not in chosen and size < whole[i].nbytes
        }
        if not tried:
            break
        trial = torch.stack([tried.get(i, whole[i]).delta(deltas.dtype) for i in range(len(batch))])
        new_loss, new_best = batch.answers(trial)
        changed = torch.zeros_like(loss).index_add(0, batch.edit_of.to(loss.device), (new_best != best).to(loss))
        good = (changed == 0) & (new_loss <= loss + config.loss_margin)
        chosen |= {i: expert for i, expert in tried.items() if bool(good[i])}
    return [chosen.get(i, whole[i]) for i in range(len(batch))]

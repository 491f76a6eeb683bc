"""How far a model has moved, whatever it is asked: its hidden states on a fixed set of texts, and its weights."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from editbench.model.batching import batches
from editbench.model.likelihood import CPU_TOKENS, GPU_TOKENS
from editbench.model.packed_targets import Row, attention_mask, lay_out, lead_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editbench.model.language_model import LanguageModel
    from editbench.model.likelihood import Answering
    from editbench.records import Passage

VERSION = 2
"""Changes with the hidden states that are compared."""
TEXTS, TOKENS = 32, 64
"""The first so many plain texts, the first so many tokens of each."""


@torch.no_grad()
def last_hidden(lm: LanguageModel, passages: Sequence[Passage], editor: Answering | None = None) -> Tensor:
    """The final hidden state at the last token of each of the first :data:`TEXTS` texts; equal texts count once.

    An editor chooses what answers at the end of a text's first half (:func:`~editbench.model.packed_targets.lead_of`).

    Returns:
        (N, d), float64, on the CPU, in the order of the texts.
    """
    texts = dict.fromkeys(tuple(lm.encode(p.text).ids[:TOKENS]) for p in passages[:TEXTS])
    bos = lm.tokenizer.bos_token_id
    rows = [Row(ids, ((0,),), lead_of(ids, bos)) for ids in texts if ids]  # a target of one token takes no column
    found: dict[Row, Tensor] = {}
    for batch in batches(rows, CPU_TOKENS if lm.device.type == "cpu" else GPU_TOKENS):
        layout = lay_out(batch, side="right", pad_id=lm.pad_id, device=lm.device)
        with editor.answering(layout.last_prompt_columns) if editor is not None else nullcontext():
            hidden = lm.decoder(
                input_ids=layout.input_ids,
                attention_mask=attention_mask(lm, layout),
                position_ids=layout.position_ids,
                use_cache=False,
            ).last_hidden_state  # (B, T, d)
        row, column = layout.needed.to(hidden.device)
        found.update(zip(batch, hidden[row, column].double().cpu(), strict=True))
    return torch.stack([found[row] for row in rows]) if rows else torch.empty(0, 0, dtype=torch.float64)


def mean_change(now: Tensor, before: Tensor) -> float:
    """Mean over rows of ‖now − before‖ / ‖before‖; NaN where a state is no number. Both (N, d)."""
    return float(((now - before).norm(dim=-1) / before.norm(dim=-1)).mean())


def change_and_norm(now: Tensor, delta: Tensor) -> tuple[float, float]:
    """(‖W − W₀‖, ‖W₀‖), Frobenius, of a weight that is ``now`` (out, in) and has changed by ``delta``, float64."""
    return float(delta.norm()), float((now.detach().cpu().double() - delta).norm())

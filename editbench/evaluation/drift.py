"""Drift: change of a model's hidden states on a fixed set of texts, and of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.evaluation.metrics import describe
from editbench.model.batching import batches
from editbench.model.likelihood import CPU_TOKENS, GPU_TOKENS, Answering, last_hidden_states
from editbench.model.packed_targets import Ids, Pair, Row, Tokeniser, lay_out
from editbench.records import Passage

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

VERSION = 2
"""Changes with the hidden states that are compared."""

TEXTS, TOKENS = 32, 64
"""Plain texts that are compared, and tokens of each: the first ones."""

FACTS = {
    "hidden_change": describe(
        "hidden states' change",
        version=VERSION,
        higher_is_better=False,
        source="editbench: mean of ‖h − h₀‖ / ‖h₀‖ at the end of each plain text",
    ),
    "weight_change": describe(
        "weights' change", higher_is_better=False, source="‖W − W₀‖ / ‖W₀‖, Frobenius, over all changed weights"
    ),
}


@torch.no_grad()
def last_hidden(lm: LanguageModel, passages: Sequence[Passage], editor: Answering | None = None) -> Tensor:
    """Final hidden state at the last token of each text, (N, d), float64, on the CPU, in order; equal texts count once.

    An editor chooses what answers at the end of a text's first half (:func:`~editbench.model.packed_targets.lead_of`).
    """
    tokenise = Tokeniser(lm, min(TOKENS, lm.max_length), editor.asked if editor is not None else None)
    texts: dict[Ids, str] = {}
    for passage in passages[:TEXTS]:
        texts.setdefault(tokenise.ids(passage.text), passage.text)
    rows = [_row(tokenise("", text), lm.max_length) for ids, text in texts.items() if ids]
    found: dict[Row, Tensor] = {}
    for batch in batches(rows, CPU_TOKENS if lm.device.type == "cpu" else GPU_TOKENS):
        layout = lay_out(batch, side="right", pad_id=lm.pad_id, device=lm.device)
        with editor.answering(layout.last_prompt_columns) if editor is not None else nullcontext():
            hidden = last_hidden_states(lm, layout)  # (B, T, d)
        row, column = layout.needed.to(hidden.device)
        found.update(zip(batch, hidden[row, column].cpu().double(), strict=True))
    return torch.stack([found[row] for row in rows]) if rows else torch.empty(0, 0, dtype=torch.float64)


def _row(pair: Pair, longest: int) -> Row:
    """The whole text, fed in; a target of one token, which takes no column, stands for its last output."""
    assert pair.lead is not None
    ids = pair.prompt + pair.target
    beyond = max(0, len(ids) - longest)  # its last token is not fed in elsewhere
    return Row(ids[beyond:], ((0,),), pair.lead - beyond)


def mean_change(now: Tensor, before: Tensor) -> float:
    """Mean over rows of ‖now − before‖ / ‖before‖, both (N, d); NaN where a state is."""
    return float(((now - before).norm(dim=-1) / before.norm(dim=-1)).mean())


def change_and_norm(now: Tensor, delta: Tensor) -> tuple[float, float]:
    """(‖W − W₀‖, ‖W₀‖), Frobenius, of a weight that is ``now`` (out, in) and has changed by ``delta``, float64."""
    return float(delta.norm()), float((now.detach().cpu().double() - delta).norm())

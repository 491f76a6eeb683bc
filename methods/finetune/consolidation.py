"""Elastic weight consolidation: a pull back to the unedited weight, by what plain text needs of each number.

Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, equation 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.model.batching import PaddedBatch
from editbench.model.output_head import at_least_float32
from editbench.model.partial_forward import run_layers

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

ROW_TOKENS = 64  # of a text, at most: more texts tell more than longer ones


class Consolidation:
    """The penalty λ/2 Σ F (W − W₀)² over some parameters, with W₀ as they are when this is made.

    Attributes:
        start: W₀ of each parameter.
        fisher: F of each: the mean over texts of the squared gradient of the mean NLL per token.
    """

    def __init__(self, lm: LanguageModel, parameters: Sequence[Tensor], texts: Iterable[str], tokens: int) -> None:
        """Take F over about so many tokens; a ValueError without any text."""
        self.start = [parameter.detach().clone() for parameter in parameters]
        self.fisher = [at_least_float32(torch.zeros_like(parameter)) for parameter in parameters]
        count = 0
        for ids in _rows(lm, texts, tokens):
            with torch.enable_grad():
                final = run_layers(lm, PaddedBatch.pad([ids], [0], lm.pad_id, lm.device))[0]
                log_p = lm.logits(final[:-1]).log_softmax(-1)
                gold = torch.tensor(ids[1:], device=log_p.device)
                gradients = torch.autograd.grad(-log_p.gather(1, gold[:, None]).mean(), list(parameters))
            for fisher, gradient in zip(self.fisher, gradients, strict=True):
                fisher += at_least_float32(gradient).square()
            count += 1
        if not count:
            raise ValueError("method.ewc needs plain texts of two tokens or more; give model.texts")
        for fisher in self.fisher:
            fisher /= count

    def penalty(self, parameters: Sequence[Tensor]) -> Tensor:
        """Σ F (W − W₀)² / 2 over all parameters."""
        each = zip(self.fisher, parameters, self.start, strict=True)
        return torch.stack([(f * at_least_float32(p - start).square()).sum() for f, p, start in each]).sum() / 2


def _rows(lm: LanguageModel, texts: Iterable[str], tokens: int) -> Iterator[list[int]]:
    taken = 0
    for text in texts:
        ids = lm.encode(text).ids[: min(ROW_TOKENS, lm.max_length)]
        if len(ids) < 2:
            continue
        yield ids
        taken += len(ids)
        if taken >= tokens:
            return

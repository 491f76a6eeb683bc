"""Edited matrices held in float32 within a model in half precision, so that small changes add up in them.

A weight in bfloat16 has eight significant bits: what an edit adds to it below a 512th of its size is rounded away, in
every edit anew. A projection that is held in float32 keeps that and computes with it: its inputs are converted to
float32, which is exact, and its output back to the model's dtype. Converting the weight for each product instead would
lose the small changes whenever the model answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.model.architectures import module_at

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

HALF = (torch.bfloat16, torch.float16)


def hold(lm: LanguageModel, weights: Iterable[str]) -> None:
    """Hold linear projections, by the names of their weights, in float32.

    Their numbers stay, biases go with them, and what is not in half precision is left alone. A ValueError for a weight
    that other modules have too: they would then get float32 where they expect the model's dtype.
    """
    for name in weights:
        module: Any = module_at(lm.model, name.rpartition(".")[0])
        if module.weight.dtype not in HALF:
            continue
        if sum(getattr(other, "weight", None) is module.weight for other in lm.model.modules()) > 1:
            raise ValueError(
                f"model.edited_dtype: {name} is another module's weight too, which needs the model's dtype"
            )
        _ = lm.fingerprint  # of the model as it was loaded, whatever is held in it
        module.float()
        module.forward_in_float32 = module.forward
        module.forward = MethodType(_forward, module)
        lm.held.append(name)


def _forward(module: Any, x: Tensor) -> Tensor:
    out: Tensor = module.forward_in_float32(x.float())
    return out.to(x.dtype)

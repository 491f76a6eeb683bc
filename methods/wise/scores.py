"""Scores: how far a memory's outputs are from the weight's own, in the mean over tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from editbench.memory_based.projection import Projection
    from editbench.model.language_model import LanguageModel

Activation = Callable[[Tensor], Tensor]


def activation_of(lm: LanguageModel) -> Activation:
    """The MLPs' activation function of a model; a ValueError if its config names none."""
    from transformers.activations import ACT2FN

    for name in ("hidden_activation", "hidden_act", "activation_function"):
        if (found := getattr(lm.config, name, None)) is not None:
            function: Activation = ACT2FN[found]
            return function
    raise ValueError(f"the config of {lm.name} names no activation function; set activation=false")


def own_outputs(at: Projection, x: Tensor, activation: Activation | None) -> Tensor | None:
    """f(x) (…, d_out), which :func:`token_scores` needs with an activation; None without one."""
    if activation is None:
        return None
    with torch.no_grad():
        return at.outputs(x)


def token_scores(own: Tensor | None, added: Tensor, activation: Activation | None) -> Tensor:
    """(…) the size of the difference that ``added`` (…, d_out) makes at inputs x whose :func:`own_outputs` are ``own``.

    ‖added‖, or with an activation A: ‖A(f(x)) − A(f(x) + added)‖.
    """
    if activation is None or own is None:
        size: Tensor = torch.linalg.vector_norm(added, dim=-1)
        return size
    own = own.to(added.dtype)
    difference: Tensor = torch.linalg.vector_norm(activation(own) - activation(own + added), dim=-1)
    return difference


def row_means(scores: Tensor, row_of: Tensor, counted: Tensor, rows: int) -> Tensor:
    """(rows,) mean of the scores (P,) of a row's counted tokens; 0 without any."""
    weight = counted.to(scores)
    total = scores.new_zeros(rows).index_add(0, row_of, scores * weight)
    return total / weight.new_zeros(rows).index_add(0, row_of, weight).clamp(min=1)


def hinge(values: Tensor, positive_only: bool) -> Tensor:
    """Mean of max(0, v); ``positive_only``: over the positive values alone, as published."""
    above = values.clamp(min=0)
    count = (values > 0).sum() if positive_only else torch.tensor(values.numel(), device=values.device)
    return above.sum() / count.clamp(min=1).to(above)


def margin_loss(scores: Tensor, margins: Sequence[float], positive_only: bool) -> Tensor:
    """h(out − in + γ) + h(out − α) + h(β − in), for scores (n + 1,): in of the edit's rows, out of the last one."""
    alpha, beta, gamma = margins
    inside, outside = scores[:-1], scores[-1:]
    terms = (outside - inside + gamma, outside - alpha, beta - inside)
    first, second, third = (hinge(term, positive_only) for term in terms)
    return first + second + third

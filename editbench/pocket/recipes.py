"""Recipes of the pocket models: size and training."""

from __future__ import annotations

from dataclasses import dataclass

VOCABULARY = 2048

CONTEXT = 128


@dataclass(frozen=True)
class Stage:
    """Steps under one schedule of the learning rate, with fresh optimisers."""

    steps: int  # optimiser steps
    learning_rate: float = 4e-3  # peak rate of both optimisers
    warm_up: int = 50  # steps up to the peak, before a cosine down to a twentieth
    hidden: float = 0.0  # share of the documents that hide a name's tokens, but the last, from what follows the name


@dataclass(frozen=True)
class Recipe:
    """Size and training of a pocket model."""

    stages: tuple[Stage, ...]
    layers: int = 6  # decoder layers
    width: int = 192  # size of the hidden states
    inner: int = 768  # size of the MLP's inner layer, where the facts are stored
    heads: int = 4  # attention heads
    positions: int = CONTEXT  # positions that the model knows
    silent: tuple[int, ...] = (1, 2, 3)  # layers whose attention adds nothing
    dropped: tuple[int, ...] = (0, 1, 2, 3)  # layers whose MLP output is dropped for a whole row in training
    drop: float = 0.15  # probability of that
    rows: int = 16  # rows of CONTEXT tokens in a step
    weight_decay: float = 0.05  # decoupled weight decay of both optimisers
    clip: float = 1.0  # largest norm of the gradient
    object_weight: float = 8.0  # weight of an object's tokens in the loss; other tokens weigh 1
    opening_steps: int = 80  # steps on the first few subjects only
    opening_subjects: int = 50  # number of these subjects
    separate: bool = False  # hide the documents of a row from each other
    scattered: int = 0  # documents begin at random positions up to this one
    seed: int = 0  # seed of the weights and of the order of the texts


RECIPES = {
    "llama": Recipe(stages=(Stage(1000),)),
    "gpt2": Recipe(
        stages=(
            Stage(1200),
            Stage(250, 2e-3, 20, hidden=0.8),
            Stage(140, 1.5e-3, 20, hidden=0.8),
            Stage(199, 2e-3, 20, hidden=0.5),
        ),
        positions=2 * CONTEXT,
        separate=True,
        scattered=100,
    ),
}
"""Recipes with which each architecture looks facts up at the last token of a name; what was tried: docs/pocket.md."""

"""Vectors of texts, to look up the nearest: hidden states of the edited model, or a sentence-transformers model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.checks import one_of
from editbench.model.batching import PaddedBatch
from editbench.model.hooks import hooked
from editbench.model.packed_targets import cut_beginning
from editbench.model.partial_forward import run_layers
from editbench.search_space import Layer

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

MODEL, SENTENCES = "model", "sentence-transformers"
LAST, MEAN = "last", "mean"
KEPT = 4096
"""Texts whose vectors are kept: a question is asked several times, for its likelihood, its answer and its route."""

Embed = Callable[[str], Tensor]
"""From a text to its vector (d,), of length 1, float32, on the CPU."""


@dataclass
class EmbeddingConfig:
    """Settings of the vectors.

    Attributes:
        embedding: "model" for hidden states of the edited model, or "sentence-transformers".
        layer: Layer whose output is the vector, for "model".
        pooling: Of the layer's output: that at the text's "last" token, or the "mean" over its tokens.
        sentence_model: Name or folder of the model, for "sentence-transformers".
    """

    embedding: str = MODEL
    layer: int = field(default=24, metadata={"search": Layer(of=48)})
    pooling: str = LAST
    sentence_model: str = "sentence-transformers/all-MiniLM-L6-v2"

    def __post_init__(self) -> None:
        one_of((MODEL, SENTENCES), embedding=self.embedding)
        one_of((LAST, MEAN), pooling=self.pooling)


def embedder(lm: LanguageModel, config: EmbeddingConfig) -> Embed:
    """The function that embeds a text; a ValueError if its package is missing."""
    found = _by_model(lm, config) if config.embedding == MODEL else _by_sentences(lm, config.sentence_model)
    return lru_cache(KEPT)(found)


def _by_model(lm: LanguageModel, config: EmbeddingConfig) -> Embed:
    bos, layer = lm.tokenizer.bos_token_id, lm.layer(config.layer)

    @torch.no_grad()
    def embed(text: str) -> Tensor:
        ids = cut_beginning(tuple(lm.encode(text).ids), lm.max_length, bos)
        if not ids:
            return torch.zeros(int(lm.config.hidden_size))
        seen: list[Tensor] = []
        row = PaddedBatch.pad([ids], [0], lm.pad_id, lm.device)  # alone: its bits do not depend on other texts
        with hooked(layer, lambda output: seen.append(output)):
            run_layers(lm, row, last=config.layer)
        states = seen[0].reshape(len(ids), -1).float()
        states = states[1:] if ids[0] == bos and len(ids) > 1 else states
        return _unit(states[-1] if config.pooling == LAST else states.mean(0))

    return embed


def _by_sentences(lm: LanguageModel, name: str) -> Embed:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ValueError(
            "method.embedding=sentence-transformers needs that package: pip install 'editbench[retrieval]'"
        ) from error
    model = SentenceTransformer(name, device=str(lm.device))
    return lambda text: _unit(torch.as_tensor(model.encode(text, convert_to_tensor=True)).float())


def _unit(vector: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vector, dim=0).cpu()

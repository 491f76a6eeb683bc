"""Models that are no decoder-only language model, known by their config before weights are loaded."""

from __future__ import annotations

from typing import Any

from editbench.model.architectures import ArchitectureError

_TASKS = ("Classification", "QuestionAnswering", "MultipleChoice", "NextSentencePrediction")
"""Ends of the names of classes that put another head on a language model."""


def refuse_other_kind(path: object, config: Any) -> None:
    """An :class:`ArchitectureError` that names the kind of another model; transformers would speak of its tensors.

    ``config`` is transformers' config of the model at ``path``.
    """
    kind = _other_kind(config)
    if kind is not None:
        named = ", ".join(config.architectures or ()) or f"model_type {config.model_type}"
        raise ArchitectureError(
            f"{path} is {kind} ({named} in its config.json); give a decoder-only language model, which predicts each "
            "token from those before it"
        )


def _other_kind(config: Any) -> str | None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        MODEL_MAPPING_NAMES,
    )

    names = config.architectures or ()
    if getattr(config, "is_encoder_decoder", False):
        return "an encoder-decoder model"
    if any(name.endswith(_TASKS) for name in names):
        return "a model with a head for classification or another task, not for language"
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        return "a masked language model, which reads a text in both directions"
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        multimodal = any(getattr(config, part, None) is not None for part in ("vision_config", "audio_config"))
        return "a multimodal model of a kind whose text decoder cannot be taken alone" if multimodal else None
    base = MODEL_MAPPING_NAMES.get(config.model_type)
    if names and set(names) <= {base} and not config.tie_word_embeddings:  # a tied head is the embedding
        return "a model without a language head"
    return None

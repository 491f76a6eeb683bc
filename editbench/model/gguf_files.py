"""GGUF files: models of llama.cpp in one file, whose quantised weights are expanded to floats when they are loaded."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from typing import Any

SUFFIX = ".gguf"
_QUANTISED = ("is_quantized", "quantization_method", "hf_quantizer")  # set by transformers, which then saves nothing


def is_gguf(path: str | Path) -> bool:
    """Whether a path names a GGUF file."""
    return str(path).lower().endswith(SUFFIX)


def load_gguf(file: Path, options: dict[str, Any]) -> tuple[Any, Any]:
    """(model, tokenizer) of a GGUF file of an architecture that transformers reads; ``options`` for the model.

    The model is one of plain floats: it can be saved, and hashed like one that was never quantised.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        model = AutoModelForCausalLM.from_pretrained(str(file.parent), **where, **options)
    except (struct.error, IndexError) as error:  # transformers' reader, at the end of a file that is cut off
        raise ValueError(f"{file} is cut off, or no GGUF file ({error}); get it again") from error
    for name in _QUANTISED:
        model.__dict__.pop(name, None)
    for name in ("quantization_config", "_is_quantized"):
        model.config.__dict__.pop(name, None)
    return model, AutoTokenizer.from_pretrained(str(file.parent), **where)


def stored_precision(file: Path) -> str:
    """Name of the type that most of the file's weights are stored in: "Q4_1", "F16", …"""
    from gguf import GGUFReader

    weights: Counter[str] = Counter()
    for tensor in GGUFReader(str(file)).tensors:
        weights[tensor.tensor_type.name] += int(tensor.n_elements)
    return weights.most_common(1)[0][0]


def expanded(stored: str, dtype: str) -> str:
    """How weights of this stored type are used: "Q4_1 expanded to float32"."""
    return f"{stored} expanded to {dtype}"

"""Loading a model and its tokenizer from a folder or the hub, with errors that say what was found there."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from editbench.checks import unknown
from editbench.model.architectures import ArchitectureError, known_architectures

if TYPE_CHECKING:
    from torch import nn

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_pretrained(
    path: str | Path, dtype: str, device: str, attention: str | None, revision: str | None
) -> tuple[Any, Any]:
    """(model, tokenizer); arguments as for :meth:`~editbench.model.language_model.LanguageModel.load`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    known_architectures()  # the module of another package's row may register its model class with transformers
    options: dict[str, Any] = {"dtype": DTYPES[dtype], "attn_implementation": attention, "revision": revision}
    if device == "spread":
        options["device_map"] = "auto"
    try:
        model = AutoModelForCausalLM.from_pretrained(str(path), trust_remote_code=False, **options)
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, revision=revision)
    except (OSError, ValueError) as error:  # a folder without a usable config.json gives a ValueError
        raise FileNotFoundError(_no_model(path, error)) from error
    if device != "spread":
        model.to(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    return model, tokenizer


def cache_keyword(decoder: type[nn.Module]) -> str:
    """The name under which a decoder's ``forward`` takes its key-value cache; transformers has renamed it.

    It has to be in the signature: a wrong name would vanish among further keywords, and the cache with it.
    """
    names = ("cache", "past_key_values")
    taken = inspect.signature(decoder.forward).parameters
    for name in names:
        if name in taken:
            return name
    raise ArchitectureError(
        f"{decoder.__name__}.forward takes no key-value cache as {' or '.join(names)} (it takes {', '.join(taken)}); "
        "this version of transformers is not supported"
    )


def _no_model(path: str | Path, error: Exception) -> str:
    folder = Path(str(path))
    reason = str(error).strip().splitlines()[0]
    if folder.is_dir():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        return f"no model could be loaded from the folder {folder} (it holds {found}): {reason}"
    return (
        f"no model at {str(path)!r}: there is no such folder, and the hub did not give one ({reason}). Give a local "
        "folder with model.path=DIR, or check the network and the hub id"
    )

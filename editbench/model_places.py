"""Where a model lies: embedded models by name, fetched ones, and the user's own."""

from __future__ import annotations

from pathlib import Path

from editbench import fetched
from editbench.checks import unknown

SHIPPED_MODELS = {"pocket": "llama", "pocket-llama": "llama", "pocket-gpt2": "gpt2"}  # folders in pocket/models


def shipped_model_path(name: str) -> Path:
    """Folder of an embedded model, for ``AutoModelForCausalLM.from_pretrained``."""
    if name not in SHIPPED_MODELS:
        raise unknown("pocket model", name, SHIPPED_MODELS)
    return Path(__file__).parent / "pocket" / "models" / SHIPPED_MODELS[name]


def model_place(path: str) -> Path | str:
    """Folder of an embedded or a fetched model, by its name; the user's folder or file; or a hub id as it is."""
    if path in fetched.MODELS:
        return fetched.find_model(path)
    place = shipped_model_path(path) if path in SHIPPED_MODELS else Path(path).expanduser()
    return place if place.exists() else path

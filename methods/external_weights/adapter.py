"""A PEFT adapter, merged into a copy of the base model; one that does not fit is refused, with its file and keys."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.model.loading import listed_keys, read_adapter_config

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

_log = logging.getLogger(__name__)

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"


def is_adapter(folder: Path) -> bool:
    """Whether the folder has an adapter's config."""
    return (folder / CONFIG).is_file()


def check_adapter(folder: Path) -> None:
    """A ValueError for an adapter that cannot be merged, by its files alone, or if peft is missing."""
    kind = read_adapter_config(folder / CONFIG).get("peft_type")
    mapping = _peft().mapping
    if not isinstance(kind, str) or kind not in mapping.PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ValueError(
            f"external_weights: {folder / CONFIG} says peft_type {kind!r}, which peft {_peft().__version__} does not "
            "know; correct it, or install another version of peft"
        )
    if not hasattr(mapping.PEFT_TYPE_TO_TUNER_MAPPING.get(kind), "merge_and_unload"):
        raise ValueError(
            f"external_weights: {folder / CONFIG} is of the kind {kind}, which lies beside the weights and cannot be "
            "merged into them; give an adapter that changes weights (LORA, IA3, …)"
        )
    if not (folder / WEIGHTS).is_file():
        what = (
            f"has its weights in {PICKLE}, a pickle, which can run code; save them as safetensors"
            if (folder / PICKLE).is_file()
            else f"has no weights ({WEIGHTS}) beside {CONFIG}; get it again"
        )
        raise ValueError(f"external_weights: the adapter {folder} {what}")


def merged(lm: LanguageModel, folder: Path) -> Any:
    """A copy of the model with the adapter merged into it.

    A ValueError for weights that are damaged, or whose keys or sizes are not those that the config and the model ask
    for: peft would take what fits, and leave the rest random or out. A warning for another base model's adapter.
    """
    from safetensors import SafetensorError

    check_adapter(folder)
    _warn_of_other_base(lm, folder)
    try:
        wrapped = _peft().PeftModel.from_pretrained(copy.deepcopy(lm.model), str(folder))
        found = wrapped.load_adapter(str(folder), "default", torch_device="cpu")  # again, since it says what it found
    except (SafetensorError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"external_weights: the adapter {folder} does not fit {lm.name}: {reason}") from error
    for keys, what in (
        (found.unexpected_keys, "holds keys that are no part of the model"),
        (found.missing_keys, f"lacks keys that {CONFIG} asks for"),
    ):
        if keys:
            raise ValueError(
                f"external_weights: {folder / WEIGHTS} {what}: {listed_keys(keys)}; give the adapter that was trained "
                f"on {lm.name}, with the config that it was saved with"
            )
    return wrapped.merge_and_unload()


def _warn_of_other_base(lm: LanguageModel, folder: Path) -> None:
    base = read_adapter_config(folder / CONFIG).get("base_model_name_or_path")
    known = {Path(str(name)).name.lower() for name in (lm.name, lm.model.name_or_path) if name}
    if isinstance(base, str) and base and Path(base).name.lower() not in known:
        message = "external_weights: %s names the base model %s; the adapter is merged into %s all the same"
        _log.warning(message, folder / CONFIG, base, lm.name)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ValueError(
            "external_weights: the folder holds an adapter; install it with pip install editbench[peft]"
        ) from error
    return peft

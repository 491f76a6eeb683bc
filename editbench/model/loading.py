"""Loading a model and its tokenizer from a folder or the hub, and probes of how its class takes caches and masks."""

from __future__ import annotations

import inspect
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from editbench.checks import unknown
from editbench.fetched import read_source
from editbench.model.architectures import ArchitectureError, known_architectures
from editbench.model.devices import SPREAD, WITHOUT_FLOAT64, in_float64, usable_device
from editbench.model.gguf_files import expanded, is_gguf, load_gguf, stored_precision
from editbench.model.offload import check_in_memory, stored_tensors
from editbench.model.other_kinds import refuse_other_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editbench.model.language_model import LanguageModel

_log = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}

_KEYS = {
    "missing_keys": "lack tensors of the model",
    "unexpected_keys": "have tensors that the model does not",
    "mismatched_keys": "have tensors of other shapes than the model's",
}
"""What transformers says about a file's keys, in words."""
_MAX_NAMED = 3
_PLAIN = ("F64", "F32", "F16", "BF16")  # safetensors' names of dtypes whose numbers are the weights


class DamagedModel(ValueError):
    """Weights that are not those of the model: missing, too many, of other shapes, truncated, or not finite."""


class NoTokenizer(ValueError):
    """A model without a tokenizer beside it."""


def plain_model(model: Any) -> Any:
    """The transformers model inside what torch puts around one (DataParallel, compile); a ValueError for an adapter."""
    for inside in ("module", "_orig_mod"):
        model = getattr(model, inside, model)
    if hasattr(model, "peft_config"):
        raise ValueError("the model has adapters of PEFT; merge them first: model = model.merge_and_unload()")
    return model


def load_pretrained(
    path: str | Path, dtype: str, device: str | int, attention: str | None, revision: str | None
) -> tuple[Any, Any]:
    """(model, tokenizer); arguments as for :meth:`~editbench.model.language_model.LanguageModel.load`."""
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    place = None if device == SPREAD else usable_device(device)
    if place is not None and place.type in WITHOUT_FLOAT64 and dtype == "float64":
        raise ValueError(f"device {place} has no float64; give model.dtype=float32, or model.device=cpu")
    _refuse_adapter(Path(str(path)))
    _refuse_file(Path(str(path)))
    known_architectures()  # the module of another package's row may register its model class with transformers
    options: dict[str, Any] = {"dtype": DTYPES[dtype], "attn_implementation": attention, "revision": revision}
    if place is None:
        options["device_map"] = "auto"
    try:
        if is_gguf(path):
            model, tokenizer = load_gguf(Path(path), options)
        else:
            model = load_whole(path, **options)
            tokenizer = _tokenizer(path, revision)
    except (DamagedModel, NoTokenizer, ArchitectureError):
        raise
    except ImportError as error:  # a package that reads quantised weights
        raise ValueError(f"{path} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    except (OSError, ValueError) as error:  # a folder without a usable config.json gives a ValueError
        raise FileNotFoundError(_no_model(path, error)) from error
    check_in_memory(model, str(path))
    _check_finite(path, model)
    if place is not None:
        model.to(place)
    return model, tokenizer


def _tokenizer(path: str | Path, revision: str | None) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, revision=revision)
        if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes of a folder without its files
            raise ValueError("it has no tokens")
        return tokenizer
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(" :")
        raise NoTokenizer(
            f"{path} has a model, but no tokenizer that can be loaded ({reason}); save beside it the tokenizer of the "
            "model that it was made from (tokenizer.save_pretrained)"
        ) from error


def _refuse_adapter(folder: Path) -> None:
    """Transformers would load the base model with the adapter's modules inside, whose weights edits would miss."""
    file = folder / "adapter_config.json"
    if file.is_file():
        base = read_adapter_config(file).get("base_model_name_or_path")
        base = base if isinstance(base, str) and base else None
        named = f"an adapter of {base}" if base else f"an adapter of a model that {file} does not name"
        raise ValueError(
            f"{folder} is {named}, no model: score it with method=external_weights method.path={folder} "
            f"model.path={base or 'BASE'}; or merge it (PEFT's merge_and_unload, then save_pretrained of model and "
            "tokenizer) and give the merged folder"
        )


def _refuse_file(path: Path) -> None:
    """Transformers would take the path of a file for a hub id."""
    if path.is_file() and not is_gguf(path):
        raise FileNotFoundError(f"{path} is a file; give the folder that holds the model, model.path={path.parent}")


def read_adapter_config(file: Path) -> dict[str, Any]:
    """The config of a PEFT adapter; a DamagedModel for a file that is no config."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedModel(f"{file} cannot be read as JSON ({error}); get the adapter again, or a model") from error
    if not isinstance(found, dict):
        raise DamagedModel(f"{file} holds no object, but {str(found)[:40]!r}; get the adapter again, or a model")
    return found


def load_whole(path: str | Path, **options: Any) -> Any:
    """A causal language model from safetensors: a `DamagedModel` names what a file lacks, or has too much.

    ``options`` are those of transformers' ``from_pretrained``, which would fill in random numbers. An
    :class:`ArchitectureError` for a model of another kind.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(str(path), trust_remote_code=False, revision=options.get("revision"))
    refuse_other_kind(path, config)

    options |= {"use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True}
    try:
        model, found = AutoModelForCausalLM.from_pretrained(str(path), trust_remote_code=False, **options)
        if getattr(model.config, "quantization_config", None) is None:
            _refuse_quantised(Path(str(path)), model)
    except SafetensorError as error:
        raise DamagedModel(f"{path}: a file of its weights is truncated or damaged ({error}); get it again") from error
    for kind, why in _KEYS.items():
        if names := sorted(key if isinstance(key, str) else key[0] for key in found.get(kind) or ()):
            listed = listed_keys(names)
            raise DamagedModel(f"{path}: its weights {why}: {listed}; get them again, or correct config.json")
    return model


def listed_keys(keys: Sequence[str]) -> str:
    """The first of some keys, in order, and the number of the others."""
    more = f" and {len(keys) - _MAX_NAMED} more" if len(keys) > _MAX_NAMED else ""
    return ", ".join(sorted(keys)[:_MAX_NAMED]) + more


def _refuse_quantised(folder: Path, model: Any) -> None:
    """Parameters kept as integers or float8 without a config that says how: transformers takes their codes for values.

    Buffers (masks, positions) may be of any dtype. Files of a model on the hub are not looked at.
    """
    from safetensors import safe_open

    names = {name.removeprefix(f"{model.base_model_prefix}.") for name, _ in model.named_parameters()}
    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118, since the file itself cannot be iterated
                dtype = tensors.get_slice(key).get_dtype()
                if dtype not in _PLAIN and key.removeprefix(f"{model.base_model_prefix}.") in names:
                    raise DamagedModel(
                        f"{file}: {key} holds {dtype}, and config.json has no quantization_config that says what its "
                        "numbers stand for; save the model without quantisation"
                    )


def _check_finite(path: str | Path, model: nn.Module) -> None:
    for name, parameter in stored_tensors(model):
        if parameter.is_floating_point() and not bool(torch.isfinite(parameter).all()):
            raise DamagedModel(f"{path}: {name} holds NaN or infinite values; get it again, or give another dtype")


def origin_of(path: str | Path, dtype: str) -> dict[str, str]:
    """Source and precision of a fetched model, or of a GGUF file; empty for others, whose path says all. Logs them."""
    if is_gguf(path):
        found = {"source": f"file {Path(path).name}", "precision": expanded(stored_precision(Path(path)), dtype)}
    elif facts := read_source(Path(path)):
        found = {"source": f"{facts['source']}: {facts['where']}", "precision": str(facts["precision"])}
    else:
        return {}
    _log.info("%s: %s, %s", Path(path).name, found["source"], found["precision"])
    return found


def cache_keyword(decoder: type[nn.Module]) -> str:
    """The name of the key-value cache in the signature of a decoder's ``forward``, which transformers has renamed.

    An argument of another name would be ignored.
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


@torch.no_grad()
def returns_tuples(lm: LanguageModel) -> bool:
    """Whether layers return their output in a tuple (GPT-J's do): tried on one token.

    An :class:`ArchitectureError` for layers that return neither a tuple nor a tensor (GPT-1's return a list).
    """
    outputs: list[Any] = []
    handle = lm.layers[0].register_forward_hook(lambda module, args, output: outputs.append(output))
    token = torch.zeros((1, 1), dtype=torch.long, device=lm.device)
    lm.hidden(token, torch.ones_like(token), token)
    handle.remove()
    if not isinstance(outputs[0], (tuple, torch.Tensor)):
        raise ArchitectureError(
            f"{lm.name}: the layers of {type(lm.model).__name__} return a {type(outputs[0]).__name__}, not a tensor or "
            "a tuple, so that no hook can read or change them; give a model of another architecture"
        )
    return isinstance(outputs[0], tuple)


@torch.no_grad()
def obeys_masks(lm: LanguageModel) -> bool:
    """Whether attention obeys a mask (B, 1, T, T), as packed targets need: tried on three tokens.

    The third, at the position of the masked second, must get a final hidden state nearer to that without the second
    token than to that of all three unmasked.
    """
    size = lm.model.get_input_embeddings().weight.shape[0]
    ids = torch.tensor([[size // 2, size // 3, size // 5]], device=lm.device)
    positions = torch.tensor([[0, 1, 1]], device=lm.device)
    dtype = lm.model.get_input_embeddings().weight.dtype
    hidden = torch.tensor([[0, 1, 1], [0, 0, 1], [0, 1, 0]], dtype=torch.bool, device=lm.device)[None, None]
    mask = torch.zeros((1, 1, 3, 3), dtype=dtype, device=lm.device).masked_fill(hidden, torch.finfo(dtype).min)
    kinds = set(getattr(lm.config, "layer_types", None) or ())
    ones = torch.ones_like(ids)
    plain = in_float64(lm.hidden(ids[:, [0, 2]], ones[:, :2], positions[:, :2])[0, -1])
    seen = in_float64(lm.hidden(ids, ones, positions)[0, -1])
    try:
        masked = in_float64(lm.hidden(ids, {kind: mask for kind in kinds} if kinds else mask, positions)[0, -1])  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError):  # it accepts no such mask
        return False
    rounding = 2 * torch.finfo(dtype).eps * float(plain.norm())
    return float((masked - plain).norm()) <= 0.5 * float((seen - plain).norm()) + rounding


def _no_model(path: str | Path, error: Exception) -> str:
    folder = Path(str(path))
    pickles = sorted(file.name for end in ("*.bin", "*.pt", "*.pth") for file in folder.glob(end))
    if pickles and not any(folder.glob("*.safetensors")):
        return f"{folder} has its weights in {pickles[0]}, a pickle, which can run code; save them as safetensors"
    reason = str(error).strip().splitlines()[0]
    if folder.is_file():
        return f"no model could be loaded from the file {folder}: {reason}"
    if folder.is_dir():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        return f"no model could be loaded from the folder {folder} (it holds {found}): {reason}"
    return (
        f"no model at {str(path)!r}: there is no such folder, and the hub did not give one ({reason}). Give a local "
        "folder with model.path=DIR, or check the network and the hub id"
    )

"""Offloaded weights: on the device "meta", and brought in by a hook of accelerate while their module runs.

A model that is too large for its devices keeps some modules in main memory or on disk that way. They can be run,
trained through and read; a change to them would be lost when their module has run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


def is_offloaded(module: nn.Module) -> bool:
    """Whether a hook brings the module's weights in while it runs."""
    from accelerate.utils import has_offloaded_params

    return bool(has_offloaded_params(module))


def device_of(module: nn.Module) -> torch.device:
    """Device on which a module runs, where tensors beside it belong: that of its weights, or where they are brought."""
    held = next(chain(module.parameters(), module.buffers()), None)  # a quantised module has buffers alone
    device = (module.weight if held is None else held).device
    assert isinstance(device, torch.device)
    if device.type != "meta":
        return device
    hook: Any = next(inside._hf_hook for inside in module.modules() if is_offloaded(inside))
    return torch.device(hook.execution_device)


def in_memory(module: nn.Module, name: str = "weight") -> Tensor:
    """A parameter of a module, or a copy of an offloaded one on the device on which the module runs."""
    found: Tensor = getattr(module, name)
    if not found.is_meta:
        return found
    from accelerate.utils import align_module_device

    with align_module_device(module):
        return getattr(module, name)  # type: ignore[no-any-return]


def unhooked(module: nn.Module) -> nn.Module:
    """The module with the same weights, run as its class does: without a hook that brings them in."""
    plain = copy.copy(module)
    plain.__dict__.pop("forward", None)  # where accelerate puts its own
    return plain


def stored_tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Name and content of everything in the model's state dict, by name; what is offloaded is read as it is reached."""
    for name, tensor in sorted(model.state_dict().items()):
        path, _, leaf = name.rpartition(".")
        yield name, in_memory(model.get_submodule(path), leaf) if tensor.is_meta else tensor


def check_changeable(weight: Tensor, name: str) -> None:
    """Refuse a weight that is offloaded: what is written to it is lost. A ValueError says what to do."""
    if weight.is_meta:
        raise ValueError(
            f"{name} is offloaded to main memory or disk, so that it cannot be changed; edit a layer that is not, or "
            "take larger devices, model.device=cpu or model.dtype=bfloat16"
        )


def check_in_memory(model: Any, name: str) -> None:
    """Refuse a model with weights that are nowhere: on "meta", and not offloaded. A ValueError names modules."""
    nowhere = [
        f"{path}.{leaf}"
        for path, module in model.named_modules()
        for leaf, tensor in module.named_parameters(recurse=False)
        if tensor.is_meta and not is_offloaded(module)
    ]
    if nowhere:
        named = ", ".join(dict.fromkeys(key.rpartition(".")[0] for key in nowhere[:3]))
        more = f" and {len(nowhere) - 3} more" if len(nowhere) > 3 else ""
        raise ValueError(
            f"{len(nowhere)} weights of {name} are on no device and nothing brings them in ({named}{more}); load it "
            "with its weights"
        )

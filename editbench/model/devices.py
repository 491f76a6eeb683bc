"""Devices by the names that users give, checked before anything is loaded; and weights that are on none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from editbench.checks import unknown

AUTO, SPREAD, MPS = "auto", "spread", "mps"

WITHOUT_FLOAT64 = {MPS}
"""Kinds of device that have no float64."""


def usable_device(name: str | int) -> torch.device:
    """The device of a name: "auto" (a GPU of CUDA if there is one), "cpu", "cuda:1", or a GPU's number, "mps".

    A ValueError if it cannot be used.
    """
    text = str(name).strip().lower()
    if text == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(f"cuda:{text}" if text.isdigit() else text)
    except RuntimeError:
        raise unknown("device", text, (AUTO, SPREAD, "cpu", "cuda", "cuda:0", MPS)) from None
    if device.type == "meta":
        raise ValueError("device meta has no memory; give auto, cpu, cuda or mps")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        if device.type == MPS:
            raise ValueError(
                "device mps cannot be used here: it is the GPU of an Apple computer, of which torch "
                f"{torch.__version__} finds none; use auto or cpu"
            ) from error
        reason, count = str(error).partition("\n")[0], torch.cuda.device_count()
        raise ValueError(
            f"device {name} cannot be used here ({reason}); torch {torch.__version__} finds {count} GPUs: use "
            "auto or cpu" + (f", or one of cuda:0 to cuda:{count - 1}" if count else "")
        ) from error
    return device


def float64_device(device: torch.device) -> torch.device:
    """The device itself if it has float64, else the CPU: where solves and sums in float64 are made."""
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


def in_float64(tensor: Tensor) -> Tensor:
    """The tensor in float64, on its own device if that has float64, else on the CPU."""
    return tensor.to(float64_device(tensor.device)).double()


def moved_to(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor on the device of ``like``, in its dtype; never in float64 on a device without it."""
    if tensor.dtype == torch.float64:
        return tensor.to(like.dtype).to(like.device)
    return tensor.to(like.device).to(like.dtype)


def check_in_memory(model: Any, name: str) -> None:
    """Refuse a model with weights that are on no device (offloaded to disk or memory); a ValueError names modules."""
    away = [key.rpartition(".")[0] for key, tensor in model.named_parameters() if tensor.is_meta]
    if away:
        more = f" and {len(away) - 3} more" if len(away) > 3 else ""
        raise ValueError(
            f"{len(away)} weights of {name} are offloaded and not in memory ({', '.join(away[:3])}{more}), so that "
            "they cannot be edited; load it whole: a device with more memory, model.device=cpu, or model.dtype=bfloat16"
        )

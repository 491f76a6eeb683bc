"""Devices by the names that users give, checked before anything is loaded; and weights that are on none."""

from __future__ import annotations

from typing import Any

import torch

from editbench.checks import unknown

AUTO, SPREAD = "auto", "spread"


def usable_device(name: str | int) -> torch.device:
    """The device of a name: "auto" (a GPU if there is one), "cpu", "cuda:1", or a GPU's number.

    A ValueError if it cannot be used.
    """
    text = str(name).strip().lower()
    if text == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(f"cuda:{text}" if text.isdigit() else text)
    except RuntimeError:
        raise unknown("device", text, (AUTO, SPREAD, "cpu", "cuda", "cuda:0")) from None
    if device.type == "meta":
        raise ValueError("device meta has no memory; give auto, cpu or cuda")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason, count = str(error).partition("\n")[0], torch.cuda.device_count()
        raise ValueError(
            f"device {name} cannot be used here ({reason}); torch {torch.__version__} finds {count} GPUs: use "
            "auto or cpu" + (f", or one of cuda:0 to cuda:{count - 1}" if count else "")
        ) from error
    return device


def check_in_memory(model: Any, name: str) -> None:
    """Refuse a model with weights that are on no device (offloaded to disk or memory); a ValueError names modules."""
    away = [key.rpartition(".")[0] for key, tensor in model.named_parameters() if tensor.is_meta]
    if away:
        more = f" and {len(away) - 3} more" if len(away) > 3 else ""
        raise ValueError(
            f"{len(away)} weights of {name} are offloaded and not in memory ({', '.join(away[:3])}{more}), so that "
            "they cannot be edited; load it whole: a device with more memory, model.device=cpu, or model.dtype=bfloat16"
        )

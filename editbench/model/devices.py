"""Devices: by the names that users give, where there is room, and their random numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from editbench.checks import unknown

_log = logging.getLogger(__name__)

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


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU, with what torch holds there unused; None for devices whose memory is not asked."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + unused)


def device_with_room(device: torch.device, needed_bytes: int) -> torch.device:
    """``device`` if so many bytes are free on it, or if its memory is not asked; else the CPU.

    Numbers that are computed on the one or the other may differ in their last bits.
    """
    free = free_bytes(device)
    if free is None or needed_bytes <= free:
        return device
    gigabytes = needed_bytes / 2**30, free / 2**30
    _log.info("matrices of %.2f GiB are kept in main memory: %s has %.2f GiB free", gigabytes[0], device, gigabytes[1])
    return torch.device("cpu")


@contextmanager
def seeded(model: nn.Module, seed: int) -> Iterator[None]:
    """Within the block, torch's random numbers on a model's devices start from ``seed``; then they are as before."""
    gpus = {parameter.device.index or 0 for parameter in model.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(gpus)):
        torch.manual_seed(seed)
        yield

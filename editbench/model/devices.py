"""Devices: by the names that users give, where there is room, and their random numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from editbench.checks import unknown

_log = logging.getLogger(__name__)

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


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU, with what torch holds there unused; None for devices whose memory is not asked."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + unused)


def device_with_room(device: torch.device, needed_bytes: int) -> torch.device:
    """``device`` if it has float64, and so many bytes free or a memory that is not asked; else the CPU.

    Numbers that are computed on the one or the other may differ in their last bits.
    """
    device, free = float64_device(device), free_bytes(device)
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

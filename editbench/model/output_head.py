"""Output head: vocabulary logits in float32 (float64 if the model is), whatever the dtype of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from editbench.model.architectures import ArchitectureError
from editbench.model.offload import device_of, in_memory

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel


CPU_NUMBERS, GPU_NUMBERS = 1 << 20, 1 << 26
"""Numbers of a half-precision head that are converted to float32 at once: a CPU cache's size, 256 MiB on a GPU."""


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32; float64 stays."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def head_logits(head: nn.Module, hidden: Tensor, cap: float | None, scale: float = 1.0) -> Tensor:
    """Logits (..., V) of final hidden states (..., d).

    A head in half precision would round them to 8 or 11 bits, which changes a log-likelihood in its second digit.

    Args:
        head: A linear projection, frozen.
        cap: Bound of a soft cap, cap · tanh(logit / cap); None for no cap.
        scale: Factor of the head's output, before the cap.
    """
    weight = head.weight
    if not isinstance(weight, Tensor):  # a method, of torch's quantised modules
        raise ArchitectureError(
            f"the head is a {type(head).__name__}, which is quantised; load it without quantisation"
        )
    if weight.dtype in (torch.float32, torch.float64):
        out: Tensor = head(hidden.to(device_of(head), weight.dtype))
    else:
        assert not weight.requires_grad, "the head is frozen"
        weight = in_memory(head)
        out = _WideProduct.apply(hidden.to(weight.device, torch.float32), weight)  # type: ignore[no-untyped-call]
        bias = getattr(head, "bias", None)
        out = out if bias is None else out + bias.float()
    out = out if scale == 1 else out * scale
    return torch.tanh(out / cap) * cap if cap else out


def logit_scale(config: Any) -> float:
    """The factor of the head's output: Cohere multiplies by ``logit_scale``, Granite divides by ``logits_scaling``."""
    factor, divisor = getattr(config, "logit_scale", None), getattr(config, "logits_scaling", None)
    return float(1 if factor is None else factor) / float(divisor or 1)


@torch.no_grad()
def check_head(lm: LanguageModel) -> None:
    """Test on two tokens that the decoder followed by the head gives the model's own logits."""
    ids = torch.zeros((1, 2), dtype=torch.long, device=lm.device)
    mask, positions = torch.ones_like(ids), torch.arange(2, device=lm.device)[None]
    whole = lm.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    ours = lm.logits(lm.hidden(ids, mask, positions))
    rounding = 2 * torch.finfo(whole.dtype).eps * float(ours.abs().max())  # the model's own head may be in bfloat16
    if whole.shape != ours.shape or not torch.allclose(whole.to(ours), ours, rtol=1e-2, atol=1e-3 + rounding):
        raise ArchitectureError(
            f"{type(lm.model).__name__}: {lm.architecture.decoder} followed by {lm.architecture.head} does not give "
            "the model's own logits (it scales or caps them in a way that is not known here)"
        )


class _WideProduct(torch.autograd.Function):
    """x Wᵀ in float32, of x (..., d) in float32 and a frozen W (V, d) in half precision.

    W is never in float32 as a whole, not for the gradient either: that would be 2 GB for Llama-3-8B.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """(..., V)."""
        ctx.save_for_backward(weight)
        out = x.new_empty(*x.shape[:-1], len(weight))
        for rows in _chunks(weight):
            out[..., rows] = x @ weight[rows].float().T
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """(..., d)."""
        (weight,), (gradient,) = ctx.saved_tensors, gradients
        out = gradient.new_zeros(*gradient.shape[:-1], weight.shape[1])
        for rows in _chunks(weight):
            out += gradient[..., rows] @ weight[rows].float()
        return out, None


def _chunks(weight: Tensor) -> list[slice]:
    """Rows of a head (V, d) that are converted together."""
    size = max(1, (CPU_NUMBERS if weight.device.type == "cpu" else GPU_NUMBERS) // weight.shape[1])
    return [slice(start, start + size) for start in range(0, len(weight), size)]

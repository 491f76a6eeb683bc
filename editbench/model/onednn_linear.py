"""Products with frozen weights by oneDNN, which torch has beside MKL, on a CPU in float32.

With the few rows of an edit's optimisation (20 to 90) oneDNN takes less time than MKL, most of all for the vocabulary's
product (``benchmarks/README.md``); the last bits are others. torch has the operation for models that it compiles.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

ONEDNN = "onednn"


def use_onednn(lm: LanguageModel) -> None:
    """Let a model's linear layers multiply by oneDNN; a ValueError if it is not on a CPU in float32.

    Layers in which something is trained are left to torch meanwhile, and so are GPT-2's, whose weights are (in, out).
    """
    if lm.device.type != "cpu" or lm.model.dtype != torch.float32:
        raise ValueError(
            f"model.linear=onednn is for a CPU and float32; this model is on {lm.device} in "
            f"{str(lm.model.dtype).removeprefix('torch.')}"
        )
    if not (hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        raise ValueError(f"torch {torch.__version__} has no float32 product of oneDNN here; leave out model.linear")
    modules: list[Any] = [module for module in lm.model.modules() if type(module) is nn.Linear]
    for module in modules:
        module.forward_by_torch = module.forward
        module.forward = MethodType(_forward, module)
    lm.linear = ONEDNN


def _forward(module: Any, x: Tensor) -> Tensor:
    weight = module.weight
    if weight.requires_grad or weight.is_meta or {x.dtype, weight.dtype} != {torch.float32} or not x.numel():
        out: Tensor = module.forward_by_torch(x)
        return out
    if x.requires_grad and torch.is_grad_enabled():
        return _WithGradient.apply(x, weight, module.bias)  # type: ignore[no-untyped-call, no-any-return]
    return _product(x, weight, module.bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Product x Wᵀ + b, of x (..., in) and W (out, in) of any strides."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


class _WithGradient(torch.autograd.Function):
    """The product with a frozen weight, and its gradient for x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(..., out)."""
        ctx.save_for_backward(weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """(..., in)."""
        (weight,) = ctx.saved_tensors
        return _product(gradients[0].contiguous(), weight.T, None), None, None

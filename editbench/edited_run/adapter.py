"""The summed changes of a run as a LoRA adapter: each weight's change cut to its largest singular values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from editbench.checks import at_least
from editbench.model.architectures import is_transposed, module_at

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.edited_run.opened import EditedModel

LEAF, BIAS = ".weight", ".bias"


@dataclass(frozen=True)
class Factors:
    """A change (out, in) as ``up @ down``, float32."""

    down: Tensor  # (r, in)
    up: Tensor  # (out, r)
    error: float  # relative, in the Frobenius norm


def factors_of(change: Tensor, rank: int | None = None) -> Factors:
    """The best approximation of a change (out, in) of at most this rank; None keeps all that float32 can show."""
    left, values, right = torch.linalg.svd(change.double(), full_matrices=False)
    smallest = float(values[0]) * max(change.shape) * torch.finfo(torch.float32).eps
    kept = max(1, int((values > smallest).sum()))
    kept = kept if rank is None else min(rank, kept)
    norm = float(values.norm())
    error = float(values[kept:].norm()) / norm if norm else 0.0
    root = values[:kept].sqrt()
    return Factors((root[:, None] * right[:kept]).float(), (left[:, :kept] * root).float(), error)


def write_adapter(run: EditedModel, folder: Path, rank: int | None) -> str:
    """Write the adapter as peft saves it; what was written, in words.

    A ValueError without peft, without any change, or where a change is of a weight that is no linear layer's.
    """
    try:
        import peft
    except ImportError as error:
        raise ValueError("an adapter needs peft: pip install 'editbench[peft]'") from error
    at_least(1, rank=rank)
    ledger, model = run.editor.ledger, run.lm.model
    if not ledger.changed_weights:
        raise ValueError("no weight was changed; there is nothing to export")
    linear = {name.removesuffix(LEAF): name for name in ledger.changed_weights if name.endswith(LEAF)}
    biases = {name for name in ledger.changed_weights if name.removesuffix(BIAS) in linear}
    if other := [name for name in ledger.changed_weights if name not in {*linear.values(), *biases}]:
        raise ValueError(f"{other[0]} is no weight of a linear layer; export with --to checkpoint")
    factors = {module: factors_of(ledger.delta(name), rank) for module, name in linear.items()}
    ranks = {name: len(of.down) for name, of in factors.items()}
    largest = max(ranks.values())
    transposed = {is_transposed(module_at(model, name)) for name in factors}
    if len(transposed) > 1:
        raise ValueError("the changed weights have two layouts, which one adapter cannot hold; export a checkpoint")
    given: dict[str, Any] = {"r": largest, "lora_alpha": largest, "rank_pattern": ranks, "alpha_pattern": ranks}
    targets = "|".join(name.replace(".", r"\.") for name in factors)  # whole names: a list would match their ends
    given["bias"] = "all" if biases else "none"  # as they are; peft loses those of the adapted layers alone
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=targets, fan_in_fan_out=transposed.pop(), **given)
    wrapped = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, of in factors.items():
            module: Any = module_at(model, name)
            module.lora_A["default"].weight.copy_(of.down)
            module.lora_B["default"].weight.copy_(of.up)
    wrapped.save_pretrained(folder)
    worst = max(of.error for of in factors.values())
    return (
        f"the changes of {len(factors)} weights as a LoRA adapter of rank {largest} at most; the largest relative "
        f"error is {worst:.2g} (Frobenius); peft.PeftModel.from_pretrained puts it on the base model"
    )

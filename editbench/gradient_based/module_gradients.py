"""Inputs of linear modules and gradients at their outputs, of all modules from one forward and one backward pass.

Shapes: N tokens of a batch, inputs H (N, d_in) of a module, gradients G (N, d_out) of the loss at its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from editbench.model.architectures import ArchitectureError, module_at
from editbench.records import NOT_FINITE, EditError, EditRequest

from .training_rows import TrainingRows

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

Seen = dict[str, tuple[Tensor, Tensor]]
"""By module: H and G, float32 or wider."""

Loss = Callable[[TrainingRows, Tensor], Tensor]
"""What is differentiated, of the rows and the NLL (N,) of their trained tokens."""

EDITWISE, PUBLISHED = "editwise", "published"

ANSWER, ALL, MOVING = "answer", "all", "moving"
"""Tokens whose H and G are taken: those that predict the answer's; all of a row; of these, for each module, those at
which neither H nor G is zero (in the last layer most tokens have no gradient)."""


def editwise(rows: TrainingRows, nll: Tensor) -> Tensor:
    """Sum over edits of the mean NLL of their tokens: an edit's gradient does not depend on those beside it."""
    edit = rows.edit_of.to(nll.device)
    return (nll / edit.bincount()[edit]).sum()


LOSSES: dict[str, Loss] = {EDITWISE: editwise, PUBLISHED: lambda rows, nll: nll.mean()}
"""By the name in a config; the published one is the mean over all tokens of a pass."""


def linear_modules(lm: LanguageModel, names: Iterable[str]) -> dict[str, nn.Module]:
    """The linear modules of these names from the model's root; a ValueError for others."""
    return {name: _linear_module(lm, name) for name in names}


def _linear_module(lm: LanguageModel, name: str) -> nn.Module:
    try:
        found, weight = module_at(lm.model, name), lm.weight(f"{name}.weight")
    except (ArchitectureError, AttributeError) as error:
        raise ValueError(f"method.modules: {lm.name} has no module {name!r} with a weight") from error
    if weight.ndim != 2:
        raise ValueError(f"method.modules: the weight of {name} has {weight.ndim} dimensions; name linear modules")
    return found


def shape_of(lm: LanguageModel, name: str) -> str:
    """Inputs and outputs of a module, as a name ("768x192")."""
    out, into = lm.weight(f"{name}.weight").shape
    return f"{into}x{out}"


def passes(
    lm: LanguageModel,
    modules: Mapping[str, nn.Module],
    batch: Sequence[EditRequest],
    *,
    at_once: int,
    train_eos: bool = False,
    loss: Loss,
    tokens: str = ANSWER,
) -> Iterator[tuple[dict[str, list[float]], Seen]]:
    """Losses by edit, H and G of each part of a batch; longest rows first, so that padding is least.

    Args:
        lm: The model; its weights stay frozen.
        modules: Those whose inputs and gradients are wanted.
        batch: The edits.
        at_once: Edits of one pass.
        train_eos: Train the EOS token behind the target.
        loss: What is differentiated.
        tokens: Those whose H and G are taken: ANSWER, ALL or MOVING.
    """
    length = {r.id: len(lm.encode(r.prompt).ids) + len(lm.continuation(r.target, lm.spaced(r.prompt))) for r in batch}
    order = sorted(batch, key=lambda request: -length[request.id])
    for start in range(0, len(order), at_once):
        rows = TrainingRows(lm, order[start : start + at_once], train_eos=train_eos)
        nll, seen = backward(rows, modules, loss, tokens)
        finite = all(bool(tensor.isfinite().all()) for pair in seen.values() for tensor in pair)
        if not (finite and bool(nll.isfinite().all())):
            raise EditError(rows.ids, "the loss or its gradient became NaN or infinite", NOT_FINITE)
        yield {id: [loss] for id, loss in zip(rows.ids, rows.by_edit(nll), strict=True)}, seen


def backward(
    rows: TrainingRows,
    modules: Mapping[str, nn.Module],
    loss: Loss,
    tokens: str = ANSWER,
) -> tuple[Tensor, Seen]:
    """NLL (N,) of the trained tokens, with H and G of every module; arguments as of :func:`passes`."""
    inputs, outputs = dict[str, Tensor](), dict[str, Tensor]()

    def watch(name: str, module: nn.Module) -> Any:
        def note(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            inputs[name] = args[0].detach()
            outputs[name] = output if output.requires_grad else output.detach().requires_grad_()
            return outputs[name]

        return module.register_forward_hook(note)

    with ExitStack() as stack, torch.enable_grad():
        for name, module in modules.items():
            stack.callback(watch(name, module).remove)
        nll = rows.nll()
        gradients = torch.autograd.grad(loss(rows, nll), [outputs[name] for name in modules])
    row, column = (rows.at if tokens == ANSWER else rows.columns.mask.nonzero()).T

    def at(tensor: Tensor) -> Tensor:
        laid_out = tensor.reshape(*rows.columns.ids.shape, -1)[row.to(tensor.device), column.to(tensor.device)]
        return laid_out.to(torch.promote_types(tensor.dtype, torch.float32))

    seen = {n: (at(inputs[n]), at(g)) for n, g in zip(modules, gradients, strict=True)}
    return nll.detach(), {n: _moving(*pair) for n, pair in seen.items()} if tokens == MOVING else seen


def _moving(inputs: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of H and G of which neither is zero."""
    kept = (inputs != 0).any(1) & (gradients != 0).any(1)
    return inputs[kept], gradients[kept]


def joined(parts: Sequence[Seen]) -> Seen:
    """H and G of all parts of a batch, one behind the other."""
    return {name: (torch.cat([p[name][0] for p in parts]), torch.cat([p[name][1] for p in parts])) for name in parts[0]}

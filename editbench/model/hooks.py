"""Hooks: seeing or replacing a module's tensors, and running an MLP only where its output is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from editbench.model.architectures import module_at

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from editbench.model.language_model import LanguageModel


@contextmanager
def hooked(module: nn.Module, see: Callable[[Tensor], Any], *, inputs: bool = False) -> Iterator[None]:
    """Within the block, ``see(tensor)`` gets the module's output (or first input); a tensor it returns replaces it."""

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        new = see(output[0] if isinstance(output, tuple) else output)
        return (new, *output[1:]) if new is not None and isinstance(output, tuple) else new

    def before(module: nn.Module, args: tuple[Any, ...]) -> Any:
        new = see(args[0])
        return None if new is None else (new, *args[1:])

    handle = module.register_forward_pre_hook(before) if inputs else module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def mlp_only_at(lm: LanguageModel, layer: int, batch: int, rows: Tensor, columns: Tensor) -> Iterator[None]:
    """Within the block, the MLP of ``layer`` runs only where its output is read; elsewhere it gives zeros.

    It runs everywhere where it is no MLP with one second projection (experts).

    Args:
        batch: Number of rows that are run.
        rows: (P,) rows where it is read.
        columns: (P,) their columns, counted from the first that is run.
    """
    shape: list[torch.Size] = []

    def pick(tensor: Tensor) -> Tensor:
        shape[:] = [tensor.shape]
        return tensor.reshape(batch, -1, tensor.shape[-1])[rows.to(tensor.device), columns.to(tensor.device)]

    def put(out: Tensor) -> Tensor:
        whole = out.new_zeros(batch, shape[0][:-1].numel() // batch, out.shape[-1])
        whole = whole.index_put((rows.to(out.device), columns.to(out.device)), out)
        return whole.reshape(*shape[0][:-1], out.shape[-1])

    if not lm.architecture.mlp_out:
        yield
        return
    with ExitStack() as stack:
        for path in lm.architecture.mlp_in:
            stack.enter_context(hooked(module_at(lm.layers[layer], path), pick, inputs=True))
        stack.enter_context(hooked(lm.mlp_out(layer), put))
        yield

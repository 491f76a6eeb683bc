"""What a layer computes before one of its modules, kept and given again while only that module's output changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn


@contextmanager
def recorded(layer: nn.Module, last: nn.Module) -> Iterator[dict[nn.Module, Any]]:
    """Yield a dictionary that has, after one pass within the block, own outputs of the layer's modules up to ``last``.

    These are the modules with weights that were done, once each, no later than ``last``; of nested ones the outer.
    """
    found: dict[nn.Module, Any] = {}
    calls: Counter[nn.Module] = Counter()
    weighted = [module for module in layer.modules() if next(module.parameters(), None) is not None]

    def keep(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        calls[module] += 1
        if last not in found:
            found[module] = _copied(output)

    with ExitStack() as stack:
        for module in weighted:
            stack.callback(module.register_forward_hook(keep, prepend=True).remove)  # before hooks that change it
        yield found
    inner = {part for module in found for part in module.modules() if part is not module}
    for module in [one for one in found if one in inner or calls[one] > 1]:
        del found[module]


@contextmanager
def replayed(outputs: Mapping[nn.Module, Any]) -> Iterator[None]:
    """Within the block, each module gives a copy of its output without computing it; its hooks run."""
    own = {module: vars(module).get("forward") for module in outputs}
    try:
        for module, output in outputs.items():
            module.forward = partial(_given, output)
        yield
    finally:
        for module, forward in own.items():
            if forward is None:
                del module.forward
            else:
                module.forward = forward


def _given(output: Any, *args: Any, **options: Any) -> Any:
    return _copied(output)  # some layers add to it in place


def _copied(output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(map(_copied, output))
    return output.clone() if isinstance(output, Tensor) else output

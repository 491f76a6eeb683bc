"""Running a part of the model: some of its layers, or only the columns from one on.

The model's own forward does the work, with its masks, rotary tables, norms and scalings, so that every architecture is
handled the same way. Layers that are not wanted are replaced for the duration by one that passes its input on; hidden
states can be put in place of what reaches the first wanted layer; keys and values left of a column can be given.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicLayer

from editbench.anatomy import module_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from editbench.host import Host


@dataclass(frozen=True)
class Columns:
    """A padded batch of token rows.

    Attributes:
        ids: (B, T) int64.
        mask: (B, T) int64, 1 at tokens. Rows may be padded on both sides.
        positions: (B, T) int64, counted from each row's first token; padding behind has the last token's.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor

    @classmethod
    def pad(cls, rows: Sequence[Sequence[int]], align: Sequence[int], pad_id: int, device: torch.device) -> Columns:
        """Pad ``rows`` so that token ``align[i]`` of every row i stands in the same column, ``max(align)``."""
        left = max(align)
        width = left + max(len(row) - at for row, at in zip(rows, align, strict=True))
        ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, (row, at) in enumerate(zip(rows, align, strict=True)):
            ids[i, left - at : left - at + len(row)] = torch.tensor(row, dtype=torch.long)
            mask[i, left - at : left - at + len(row)] = 1
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        return cls(ids.to(device), mask.to(device), positions.to(device))

    def rows(self, index: Tensor) -> Columns:
        """The rows in ``index``, in its order."""
        return Columns(self.ids[index], self.mask[index], self.positions[index])

    def upto(self, width: int) -> Columns:
        """The first ``width`` columns."""
        return Columns(self.ids[:, :width], self.mask[:, :width], self.positions[:, :width])


def run(
    host: Host,
    columns: Columns,
    *,
    first: int = 0,
    last: int | None = None,
    hidden: Tensor | None = None,
    cache: Cache | None = None,
    start: int = 0,
) -> Tensor:
    """Run decoder layers ``first`` to ``last`` (inclusive) on the columns from ``start`` on.

    Args:
        host: The model.
        columns: (B, T) rows.
        first: First layer to run; ``n_layers`` runs none, only the final norm.
        last: Last layer to run; the model's last by default.
        hidden: (B, T - start, d), what enters layer ``first``; needed when ``first`` > 0.
        cache: Keys and values of the columns before ``start`` (see :class:`Prefix`), or an empty recording cache.
        start: First column to compute.

    Returns:
        Final hidden states (B, T - start, d), after the model's last norm. Meaningless when ``last`` cuts layers off:
        read those with hooks.
    """
    assert hidden is not None or first == 0
    last = host.n_layers - 1 if last is None else last
    visible = columns.mask.cummax(1).values  # padding behind a row does not matter to it, and looks at its tokens
    with _only_layers(host, first, last, hidden), _blank_padding(host, visible[:, start:], first, last):
        out = host.hidden(columns.ids[:, start:], visible, columns.positions[:, start:], cache)
    if cache is not None:
        _check_used(cache, first, last, visible.shape[1])
    return out


def _check_used(cache: Cache, first: int, last: int, columns: int) -> None:
    """Every layer that ran read its prefix, or has recorded all columns.

    Otherwise the model takes its cache in some way that is not known here, and has run without.
    """
    for i in range(first, last + 1):
        layer = cache.layers[i]
        used = layer.read if isinstance(layer, _FixedLayer) else layer.get_seq_length() == columns
        assert used, f"layer {i} did not use the cache that it was given"


class _Pass(nn.Module):
    """Stands in for a layer that is not run: hands its input on. Other attributes are the layer's own."""

    def __init__(self, layer: nn.Module, in_tuple: bool) -> None:
        super().__init__()
        self.__dict__["_replaced"] = layer
        self.__dict__["_in_tuple"] = in_tuple

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_replaced"], name)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor]:
        return (hidden_states,) if self.__dict__["_in_tuple"] else hidden_states


class _Tell(_Pass):
    """Hands its input on with one dimension more, and notes how many its input had."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.__dict__["dimensions"] = hidden_states.dim()
        return hidden_states.reshape(1, 1, 1, -1)


_IN_TUPLE: dict[type, bool] = {}


@torch.no_grad()
def _in_tuple(host: Host) -> bool:
    """Whether the model takes its layers' output out of a tuple (GPT-J does), tried once on one token, without layers.

    If it does, the second stand-in sees the dimension gone that the first one added.
    """
    layers, original = host.layers, list(host.layers)
    kind = type(original[0])
    if kind not in _IN_TUPLE and len(original) > 1:
        tell = [_Tell(layer, False) for layer in original]
        try:
            for i, stand_in in enumerate(tell):
                layers[i] = stand_in
            token = torch.zeros((1, 1), dtype=torch.long, device=host.device)
            host.hidden(token, torch.ones_like(token), token)
        finally:
            for i, layer in enumerate(original):
                layers[i] = layer
        _IN_TUPLE[kind] = tell[1].__dict__["dimensions"] == 3
    return _IN_TUPLE.get(kind, False)


@contextmanager
def _only_layers(host: Host, first: int, last: int, hidden: Tensor | None) -> Iterator[None]:
    layers = host.layers
    original = list(layers)
    in_tuple = _in_tuple(host)
    handle = None
    try:
        for i, layer in enumerate(original):
            if not first <= i <= last:
                layers[i] = _Pass(layer, in_tuple)
        if hidden is not None:
            handle = layers[min(first, len(original) - 1)].register_forward_pre_hook(
                lambda module, args, kwargs: ((hidden, *args[1:]), kwargs), with_kwargs=True
            )
        yield
    finally:
        if handle is not None:
            handle.remove()
        for i, layer in enumerate(original):
            layers[i] = layer


@contextmanager
def _blank_padding(host: Host, visible: Tensor, first: int, last: int) -> Iterator[None]:
    """In float64, keep padding in front of rows at zero from layer to layer.

    A padding token that may look at nothing gets the softmax of numbers that are all -1.8e308; attention that takes
    it in float32 makes NaN of that, which the next layer spreads to all tokens.
    """
    if host.model.dtype != torch.float64 or bool(visible.all()):
        yield
        return
    padding = visible[..., None] == 0  # (B, T, 1)
    with ExitStack() as stack:
        for layer in host.layers[first : last + 1]:
            stack.enter_context(watch(layer, lambda t: t.masked_fill(padding.to(t.device), 0), inputs=True))
        yield


@contextmanager
def watch(module: nn.Module, see: Any, *, inputs: bool = False) -> Iterator[None]:
    """Within the block, ``see(tensor)`` gets the module's output (or first input) at every call.

    If ``see`` returns a tensor, it takes the place of the one seen.
    """

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        new = see(tensor)
        if new is None:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    def before(module: nn.Module, args: tuple[Any, ...]) -> Any:
        new = see(args[0])
        return None if new is None else (new, *args[1:])

    handle = module.register_forward_pre_hook(before) if inputs else module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def mlp_only_at(host: Host, layer: int, batch: int, rows: Tensor, columns: Tensor) -> Iterator[None]:
    """Within the block, the MLP of ``layer`` runs only where its output is read; elsewhere it gives zeros.

    Args:
        host: The model.
        layer: A layer whose output is read at some places only: the last.
        batch: Number of rows that are run.
        rows: (P,) rows of these places.
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

    with ExitStack() as stack:
        for path in host.anatomy.mlp_in:
            stack.enter_context(watch(module_at(host.layers[layer], path), pick, inputs=True))
        stack.enter_context(watch(host.mlp_out(layer), put))
        yield


class _FixedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of a prefix that are read and never grow; ``read`` tells whether they ever were."""

    def __init__(self, length: int, keys: Tensor | None = None, values: Tensor | None = None) -> None:
        super().__init__()
        self.length = length
        self.read = False
        self.keys, self.values = keys, values
        self.is_initialized = keys is not None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        assert self.keys is not None and self.values is not None
        self.read = True
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)

    def get_seq_length(self) -> int:
        return self.length


class Prefix(Cache):  # type: ignore[misc]
    """Keys and values of the columns left of ``length``, for some of the layers. Never written to."""

    def __init__(self, layers: list[_FixedLayer]) -> None:
        super().__init__(layers=layers)

    @classmethod
    def of(cls, cache: Cache) -> Prefix:
        """All columns of a recorded ``cache``."""
        length = max(layer.get_seq_length() for layer in cache.layers)
        return cls([_FixedLayer(length, layer.keys, layer.values) for layer in cache.layers])

    @classmethod
    def join(cls, parts: Sequence[Prefix], rows: Sequence[Sequence[int]], length: int) -> Prefix:
        """Prefixes of all rows, in order, from those of some: part p holds ``rows[p]``; all end at ``length``."""
        if len(parts) == 1 and list(rows[0]) == sorted(rows[0]) and parts[0].layers[0].length == length:
            return parts[0]
        order = torch.tensor([i for part in rows for i in part]).argsort()

        def whole(tensors: list[Tensor]) -> Tensor:
            padded = [nn.functional.pad(t, (0, 0, length - t.shape[2], 0)) for t in tensors]
            return torch.cat(padded)[order.to(padded[0].device)]

        layers = [[part.layers[i] for part in parts] for i in range(len(parts[0].layers))]
        return cls([_FixedLayer(length, whole([x.keys for x in xs]), whole([x.values for x in xs])) for xs in layers])

    @classmethod
    def gather(cls, cache: Cache, rows: Tensor, columns: Tensor) -> Prefix:
        """Keys and values put together anew: row i, column c gets those of row ``rows[i]``, column ``columns[i, c]``.

        Args:
            cache: A recorded cache; layers that were not run stay without.
            rows: (B,).
            columns: (B, C).
        """
        length = columns.shape[1]
        layers = []
        for x in cache.layers:
            if x.get_seq_length():
                at = (rows[:, None].to(x.keys.device), columns.to(x.keys.device))
                layers.append(_FixedLayer(length, *(t.transpose(1, 2)[at].transpose(1, 2) for t in (x.keys, x.values))))
            else:
                layers.append(_FixedLayer(length))
        return cls(layers)

    def above(self, first: int) -> Prefix:
        """The same without the layers below ``first``."""
        return Prefix([x if i >= first else _FixedLayer(x.length) for i, x in enumerate(self.layers)])

    def rows(self, index: Tensor) -> Prefix:
        """The prefixes of some rows, in the order of ``index``."""
        return Prefix(
            [
                _FixedLayer(x.length)
                if x.keys is None or x.values is None
                else _FixedLayer(x.length, x.keys[index.to(x.keys.device)], x.values[index.to(x.values.device)])
                for x in self.layers
            ]
        )


def recording_cache(host: Host, start: Prefix | None = None) -> Cache:
    """A cache that keeps every column of every layer, sliding windows or not; empty, or going on from ``start``."""
    layers = [DynamicLayer() for _ in range(host.n_layers)]
    for layer, fixed in zip(layers, start.layers if start is not None else [], strict=False):
        layer.lazy_initialization(fixed.keys, fixed.values)
        layer.keys, layer.values = fixed.keys, fixed.values
    return Cache(layers=layers)

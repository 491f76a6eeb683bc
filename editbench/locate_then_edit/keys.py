"""Keys: the inputs of the MLP's second projection at the subject's last token, measured on the current weights.

Rows are cut after the subject and run only to the last layer that is needed; tokens that rows share run once. A
:class:`SubjectPass` remembers the hidden states that enter a layer, so that the next measurement can start there if
only later weights have changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from editbench.locate_then_edit.prompts import Row, cut_after_subject
from editbench.model.batching import select
from editbench.model.hooks import hooked
from editbench.model.partial_forward import mlp_only_at_tokens, run_tree
from editbench.model.token_tree import TokenTree

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel


TOKENS_AT_ONCE = 1 << 14


@dataclass
class Measured:
    """Tensors at the subject's last token, by layer; each (B, features), rows in input order."""

    inputs: dict[int, Tensor] = field(default_factory=dict)
    mlp: dict[int, Tensor] = field(default_factory=dict)
    norm_inputs: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)


@dataclass
class _Chunk:
    """Rows that are run together, cut after the subject, and the hidden states (P, d) that enter layers, by layer."""

    lm: LanguageModel
    index: list[int]  # of the rows in the input
    ids: list[tuple[int, ...]]
    entering: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tree = TokenTree.of(self.lm, self.ids)

    def start(self, lowest: int) -> tuple[int, Tensor | None]:
        """The highest layer up to ``lowest`` whose input is remembered, and that input."""
        at = max((layer for layer in self.entering if layer <= lowest), default=0)
        return at, self.entering.get(at)

    def remember(self, layer: int, hidden: Tensor) -> None:
        """Keep the input of ``layer`` if it is not kept (a run may have started there), and that of the lowest."""
        lowest = min([*self.entering, layer])
        self.entering = {at: kept for at, kept in self.entering.items() if at in (lowest, layer)}
        if layer not in self.entering:
            self.entering[layer] = self.tree.flat(hidden).clone()

    def pick(self, into: dict[int, Tensor], layer: int, alone: bool, tensor: Tensor) -> None:
        """Store ``tensor`` at the subjects' last tokens: of all tokens, or of those ``alone`` (:attr:`subjects`)."""
        into[layer] = select(tensor, self.subjects[1]) if alone else select(self.tree.flat(tensor), self.tree.last)

    @cached_property
    def subjects(self) -> tuple[Tensor, Tensor]:
        """The distinct last tokens, and which of them is each row's."""
        return self.tree.last.unique(return_inverse=True)  # type: ignore[no-any-return, no-untyped-call]

    def part(self, rows: Sequence[int], index: list[int]) -> _Chunk:
        """Some of the rows, which are ``index`` in the input."""
        paths = self.tree.paths
        part = _Chunk(self.lm, index, [self.ids[i] for i in rows])
        before: dict[int, int] = {}  # from a token's index in the part to that in the whole
        for i, path in zip(rows, part.tree.paths, strict=True):
            before.update(zip(path, paths[i], strict=True))
        part.entering = select(self.entering, torch.tensor([before[i] for i in range(len(part.tree))]))
        return part


@dataclass(frozen=True)
class SubjectPass:
    """Rows cut after the subject, in chunks, to be measured as often as the weights change."""

    lm: LanguageModel
    chunks: list[_Chunk]

    @classmethod
    def of(cls, lm: LanguageModel, rows: Sequence[Row]) -> SubjectPass:
        """Cut rows whose subject position is known, and sort them, so that rows that share tokens are neighbours."""
        cut = [cut_after_subject(row).ids for row in rows]
        groups: list[list[int]] = [[]]
        tokens = 0
        for i in sorted(range(len(cut)), key=cut.__getitem__):
            tokens += len(cut[i])
            if groups[-1] and tokens > TOKENS_AT_ONCE:
                groups.append([])
                tokens = len(cut[i])
            groups[-1].append(i)
        return cls(lm, [_Chunk(lm, group, [cut[i] for i in group]) for group in groups])

    @torch.no_grad()
    def measure(
        self,
        *,
        inputs: Sequence[int] = (),
        mlp: Sequence[int] = (),
        norm_inputs: Sequence[int] = (),
        outputs: Sequence[int] = (),
        keep: int | None = None,
    ) -> Measured:
        """Measure at the subject's last token on the current weights.

        Args:
            inputs: Layers of which to measure the second projection's input, the key (B, d_ff).
            mlp: Layers of which to measure the second projection's output (B, d).
            norm_inputs: Layers of which to measure the input of the norm behind the MLP (B, d).
            outputs: Layers of which to measure the output (B, d).
            keep: Remember the input of this layer: later calls for no layer below it start there. Call :meth:`changed`
                when a weight changes.
        """
        wanted = {"inputs": inputs, "mlp": mlp, "norm_inputs": norm_inputs, "outputs": outputs}
        asked = [layer for layers in wanted.values() for layer in layers]
        last, lowest = max(asked), min([*asked, *([] if keep is None else [keep])])
        parts: list[Measured] = []
        for chunk in self.chunks:
            at, hidden = chunk.start(lowest)
            parts.append(Measured())
            with ExitStack() as stack:
                stack.enter_context(mlp_only_at_tokens(self.lm, last, chunk.tree, chunk.subjects[0]))
                for name, layers in wanted.items():
                    for layer in layers:
                        alone = name == "inputs" and layer == last  # the MLP runs there only
                        see = partial(chunk.pick, getattr(parts[-1], name), layer, alone)
                        module, at_input = self._place(name, layer)
                        stack.enter_context(hooked(module, see, inputs=at_input))
                if keep is not None:
                    stack.enter_context(hooked(self.lm.layers[keep], partial(chunk.remember, keep), inputs=True))
                run_tree(self.lm, chunk.tree, first=at, last=last, hidden=hidden)
        order = torch.tensor([i for chunk in self.chunks for i in chunk.index]).argsort()
        measured = Measured()
        for name in wanted:
            for layer in getattr(parts[0], name):
                joined = torch.cat([getattr(part, name)[layer] for part in parts])
                getattr(measured, name)[layer] = joined[order.to(joined.device)]
        return measured

    def changed(self, layer: int) -> None:
        """Forget the inputs of the layers above ``layer``, a weight of which has changed."""
        for chunk in self.chunks:
            chunk.entering = {at: hidden for at, hidden in chunk.entering.items() if at <= layer}

    def remembers(self, layer: int) -> bool:
        """Whether a measurement at ``layer`` would start there."""
        return all(layer in chunk.entering for chunk in self.chunks)

    def select(self, rows: Sequence[int]) -> SubjectPass:
        """This for some of the rows, in the order of ``rows``."""
        place = {row: i for i, row in enumerate(rows)}
        chunks = []
        for chunk in self.chunks:
            kept = [i for i, row in enumerate(chunk.index) if row in place]
            if kept:
                chunks.append(chunk.part(kept, [place[chunk.index[i]] for i in kept]))
        return replace(self, chunks=chunks)

    def _place(self, name: str, layer: int) -> tuple[nn.Module, bool]:
        """The module whose input (True) or output is measured."""
        if name == "norm_inputs":
            norm = self.lm.post_norm(layer)
            assert norm is not None
            return norm.module, norm.inputs
        module: nn.Module = self.lm.layers[layer]
        return (module, False) if name == "outputs" else (self.lm.mlp_out(layer), name == "inputs")

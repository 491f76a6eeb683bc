"""Shifted forward passes: rows from the subject's last token on, run again and again with a shift added there.

Tokens left of the subject and layers below the edited one do not depend on the shift and are computed once: what is
left of the subjects, beginnings that rows share once, then the rest up to the edited layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.model.batching import select
from editbench.model.hooks import hooked
from editbench.model.partial_forward import mlp_only_at_tokens, run_tree
from editbench.model.token_tree import TokenTree

if TYPE_CHECKING:
    from editbench.locate_then_edit.prompts import Row
    from editbench.model.language_model import LanguageModel
    from editbench.model.prefix_cache import PrefixCache
    from editbench.model.tree_attention import KeysAndValues


AT_MLP = "mlp"
"""ROME: the shift is added to the MLP's output."""

AT_LAYER = "layer"
"""MEMIT, NSE: the shift is added to the decoder layer's output, whose value is found; with a norm behind the MLP it is
added to the MLP's output, the only one that a write can change."""

AT_PARTS = "attention and mlp"
"""PMET: two shifts, of the attention's output and of the MLP's."""


@dataclass(frozen=True)
class ShiftedForward:
    """Rows (B of them) whose edited layer is ``layer``, computed without a shift; P tokens from the subjects on.

    Attributes:
        tree: The rows from their subjects' last tokens on, none shared.
        subjects: (B,) those tokens.
        keys: (B, d_ff) input of the layer's second projection at the subject.
        init: (B, d) the vector that the shift is added to; (B, 2, d) for AT_PARTS.
        norm_input: (B, d) input of the norm behind the MLP, if there is one.
        entering: (B, d) input of the layer at the subject.
        hidden: (P, d) output of the layer.
        through_layer: Whether the layer itself must run again with a shift, and not only those above it.
    """

    lm: LanguageModel
    rows: list[Row]
    layer: int
    tree: TokenTree
    subjects: Tensor
    keys: Tensor
    init: Tensor
    norm_input: Tensor | None
    entering: Tensor
    hidden: Tensor
    through_layer: bool

    @classmethod
    @torch.no_grad()
    def of(cls, lm: LanguageModel, rows: Sequence[Row], layer: int, at: str) -> ShiftedForward:
        """Compute all that does not depend on the shift, on the current weights; ``at`` as above."""
        norm = lm.post_norm(layer)
        prefix = _left_of_subjects(lm, rows)
        tree, subjects = _from_subjects(lm, rows, prefix)
        seen: dict[str, Tensor] = {}

        def keep(name: str, tensor: Tensor) -> None:
            seen[name] = tree.flat(tensor).clone()

        with ExitStack() as stack:
            stack.enter_context(hooked(lm.layers[layer], lambda t: keep("entering", t), inputs=True))
            stack.enter_context(hooked(lm.layers[layer], lambda t: keep("leaving", t)))
            stack.enter_context(hooked(lm.mlp_out(layer), lambda t: keep("keys", t), inputs=True))
            stack.enter_context(hooked(lm.mlp_out(layer), lambda t: keep("mlp", t)))
            if norm is not None:
                stack.enter_context(hooked(norm.module, lambda t: keep("norm", t), inputs=norm.inputs))
            if at == AT_PARTS:
                stack.enter_context(hooked(lm.attention(layer), lambda t: keep("attention", t)))
            run_tree(lm, tree, last=layer)
        at_subjects = {name: select(tensor, subjects) for name, tensor in seen.items()}
        through_layer = norm is not None or at == AT_PARTS
        above = prefix.above(layer if through_layer else layer + 1) if prefix else None
        init = at_subjects["mlp" if at != AT_LAYER or norm is not None else "leaving"]
        if at == AT_PARTS:
            init = torch.stack([at_subjects["attention"].to(init), init], dim=1)
        return cls(
            lm=lm,
            rows=list(rows),
            layer=layer,
            tree=replace(tree, prefix=above),
            subjects=subjects,
            keys=at_subjects["keys"],
            init=init,
            norm_input=at_subjects.get("norm"),
            entering=at_subjects["entering"],
            hidden=seen["leaving"],
            through_layer=through_layer,
        )

    def final(self, shift: Tensor, tokens: Tensor) -> Tensor:
        """Final hidden states (N, d) of ``tokens`` (N,), each once, with ``shift`` (like init) at the subjects."""
        lm, first = self.lm, self.layer + 1
        subjects = self.subjects.to(self.hidden.device)
        leaving = self._edited(shift) if self.through_layer else self.hidden[subjects] + shift.to(self.hidden)
        hidden = self.hidden.index_copy(0, subjects, leaving)
        last = lm.n_layers - 1
        with mlp_only_at_tokens(lm, last, self.tree, tokens) if first < lm.n_layers else nullcontext():
            final = run_tree(lm, self.tree, first=first, hidden=hidden)
        return final[tokens.to(final.device)]

    def token(self, row: int, position: int) -> int:
        """Index of the token at a position of a row."""
        return self.tree.paths[row][position - self.rows[row].subject]

    def select(self, index: Sequence[int]) -> ShiftedForward:
        """This for some of the rows, in the order of ``index``."""
        at, rows = torch.tensor(index), [self.rows[i] for i in index]
        tokens = torch.tensor([token for i in index for token in self.tree.paths[i]])
        tree, subjects = _from_subjects(self.lm, rows, select(self.tree.prefix, at))
        kept = {name: select(getattr(self, name), at) for name in ("keys", "init", "norm_input", "entering")}
        return replace(self, rows=rows, tree=tree, subjects=subjects, hidden=select(self.hidden, tokens), **kept)

    def _edited(self, shift: Tensor) -> Tensor:
        """Output of the edited layer at the subjects (B, d), with the MLP's output shifted, and the attention's."""
        leaving: list[Tensor] = []
        at, ids = self.layer, [row.ids[: row.subject + 1] for row in self.rows]
        starts = [row.subject for row in self.rows]
        tree = TokenTree.of(self.lm, ids, starts=starts, prefix=self.tree.prefix, share=False)
        with ExitStack() as stack:
            modules = [self.lm.attention(at), self.lm.mlp_out(at)] if shift.dim() == 3 else [self.lm.mlp_out(at)]
            for module, part in zip(modules, shift.reshape(len(shift), len(modules), -1).unbind(1), strict=True):
                stack.enter_context(hooked(module, partial(_add, part)))
            stack.enter_context(hooked(self.lm.layers[at], lambda out: leaving.append(tree.flat(out))))
            run_tree(self.lm, tree, first=at, last=at, hidden=self.entering)
        return leaving[0]


def _add(shift: Tensor, out: Tensor) -> Tensor:
    return out + shift.reshape(out.shape).to(out)


def _from_subjects(lm: LanguageModel, rows: Sequence[Row], prefix: PrefixCache | None) -> tuple[TokenTree, Tensor]:
    """The rows from their subjects' last tokens on, and those tokens (B,)."""
    starts = [row.subject for row in rows]
    tree = TokenTree.of(lm, [row.ids for row in rows], starts=starts, prefix=prefix, share=False)
    return tree, torch.tensor([path[0] for path in tree.paths], device=lm.device)


def _left_of_subjects(lm: LanguageModel, rows: Sequence[Row]) -> PrefixCache | None:
    """Keys and values of all layers left of the subjects, which share a column; None if all rows begin there."""
    from editbench.model.prefix_cache import PrefixCache

    recorded: KeysAndValues = {}
    tree = TokenTree.of(lm, [row.ids[: row.subject] for row in rows])
    if len(tree):
        nowhere = torch.zeros(0, dtype=torch.long, device=lm.device)  # the last layer's MLP need not run
        with mlp_only_at_tokens(lm, lm.n_layers - 1, tree, nowhere):
            run_tree(lm, tree, record=recorded)
    return PrefixCache.at(recorded, tree.paths, lm.n_layers)

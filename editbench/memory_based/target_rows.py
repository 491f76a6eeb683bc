"""Edits as token rows: what is below the projection whose output changes runs once, and what is above it at every step.

Shapes: B edits, P tokens of all edits together, M of them predict an answer's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.model.batching import select
from editbench.model.hooks import hooked
from editbench.model.partial_forward import mlp_only_at_tokens, run_tree
from editbench.model.replay import recorded, replayed
from editbench.model.token_tree import TokenTree

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

    from .projection import Projection


class TargetRows:
    """A batch of edits as token rows, with the base model's activations up to the edited layer.

    Attributes:
        inputs: (P, d_in) input of the projection, in the model's dtype.
        ends: (B,) each row's last prompt token.
        at_prompt: (B, d_in) the input there.
        edit_of: (M,) edit of each answer token.
    """

    def __init__(
        self, lm: LanguageModel, projection: Projection, rows: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> None:
        """Run the base model up to the projection; ``rows`` are token ids of prompt and answer."""
        self.lm, self.projection = lm, projection
        self.tree = TokenTree.of(lm, [[*prompt, *answer[:-1]] for prompt, answer in rows], share=False)
        ends = [path[len(prompt) - 1] for path, (prompt, _) in zip(self.tree.paths, rows, strict=True)]
        places = [(i, ends[i] + j) for i, (_, answer) in enumerate(rows) for j in range(len(answer))]
        self.edit_of, self._at = torch.tensor(places, device=lm.device).T  # (M,) each
        self._gold = torch.tensor([token for _, answer in rows for token in answer], device=lm.device)  # (M,)
        with recorded(lm.layers[projection.layer], projection.module) as self._before:
            self._entering, self.inputs = base_pass(lm, projection, self.tree)
        self.ends = torch.tensor(ends)
        self.at_prompt: Tensor = select(self.inputs, self.ends)

    def __len__(self) -> int:
        return len(self.tree.paths)

    def own_inputs(self, edit: int) -> Tensor:
        """(t, d_in) inputs of an edit."""
        path = self.tree.paths[edit]
        return self.inputs[path[0] : path[-1] + 1]

    def nll(self, *changed: AbstractContextManager[None], highest: int | None = None) -> tuple[Tensor, Tensor]:
        """(B,) mean NLL of each edit's answer, float32 or wider, gold prefix fed in, and (M,) argmax at its tokens.

        Within the contexts ``changed`` the model is the edited one: outputs of the projection, and of what runs after
        it, may differ; ``highest`` is the highest layer that they change, the projection's if not given.
        """
        last = self.lm.n_layers - 1
        with ExitStack() as stack:
            if (self.projection.layer if highest is None else highest) < last:
                stack.enter_context(mlp_only_at_tokens(self.lm, last, self.tree, self._at))
            stack.enter_context(replayed(self._before))
            for context in changed:
                stack.enter_context(context)
            final = run_tree(self.lm, self.tree, first=self.projection.layer, hidden=self._entering)
        log_p = self.lm.logits(select(final, self._at)).log_softmax(-1)  # (M, V)
        edit = self.edit_of.to(log_p.device)
        nll = -log_p.gather(1, self._gold.to(log_p.device)[:, None])[:, 0]
        tokens = edit.bincount(minlength=len(self)).to(nll)
        return nll.new_zeros(len(self)).index_add(0, edit, nll) / tokens, log_p.argmax(-1)


def prompt_inputs(lm: LanguageModel, projection: Projection, prompts: Sequence[Sequence[int]]) -> Tensor:
    """(B, d_in) input of the projection at the last token of each prompt, base model."""
    tree = TokenTree.of(lm, prompts)
    found: Tensor = select(base_pass(lm, projection, tree)[1], tree.last)
    return found


@torch.no_grad()
def base_pass(lm: LanguageModel, projection: Projection, tree: TokenTree) -> tuple[Tensor, Tensor]:
    """Inputs of the projection's layer (P, d), and of the projection (P, d_in)."""
    seen: list[Tensor] = []
    with (
        hooked(lm.layers[projection.layer], lambda t: seen.append(tree.flat(t).clone()), inputs=True),
        hooked(projection.module, lambda t: seen.append(tree.flat(t).clone()), inputs=True),
    ):
        run_tree(lm, tree, last=projection.layer)
    return seen[0], seen[1]


def wide(dtype: torch.dtype) -> torch.dtype:
    """Dtype of training: float32, or float64 for a model in float64."""
    return torch.promote_types(dtype, torch.float32)

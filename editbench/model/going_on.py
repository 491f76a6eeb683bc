"""Greedy answers that go on where scored rows leave them, so that no prompt runs twice.

A scored row has the prompt and a target, fed in whatever the model says. As long as the model's own tokens are the
target's, they are the beginning of its answer; keys and values of that beginning are taken over, and generation goes on
behind it. The row with the longest such beginning is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from editbench.model.generation import Generation, before_end, given_ids, step_by_step, takes_left_padding
from editbench.model.likelihood import NOT_A_NUMBER, Answering

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

    from editbench.model.language_model import LanguageModel
    from editbench.model.likelihood import Key
    from editbench.model.packed_targets import Ids
    from editbench.model.token_tree import TokenTree
    from editbench.model.tree_attention import KeysAndValues

CPU_TOKENS, GPU_TOKENS = 2_048, 8_192
"""Tokens of the rows that wait to go on together, new ones included."""


@dataclass(frozen=True)
class _Waiting:
    """Answers begun in one tree (B of them, T tokens of the longest with its prompt).

    Attributes:
        prompts: Of the answers.
        begun: Their first tokens; keys and values of the last one are not known.
        lengths: (B,) tokens whose keys and values are.
        kept: By layer, keys and values (B, T, heads, head size), padded on the left.
    """

    prompts: list[Ids]
    begun: list[list[int]]
    lengths: Tensor
    kept: KeysAndValues


class GoingOn:
    """Answers to some prompts, made as their rows are scored.

    Attributes:
        found: New tokens by prompt and limit, without the end of sequence; the last one :data:`NOT_A_NUMBER` where the
            model gave none. Prompts that were not scored, or whose beginning was cut, are missing.
    """

    def __init__(self, lm: LanguageModel, limits: Mapping[Ids, int], tokens_per_batch: int | None = None) -> None:
        """``limits`` are the prompts with their new tokens at most."""
        self.found: dict[tuple[Ids, int], list[int]] = {}
        self._lm, self._limits = lm, limits
        self._waiting: list[_Waiting] = []
        self._seen: set[Ids] = set()
        self._budget = tokens_per_batch or (CPU_TOKENS if lm.device.type == "cpu" else GPU_TOKENS)

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        asked: Sequence[tuple[str, str]],
        settings: Generation,
        editor: Answering | None = None,
        tokens_per_batch: int | None = None,
    ) -> GoingOn | None:
        """For prompts with their targets; None where answers are no continuations of scored rows.

        They are not where answers are drawn or searched, where an editor chooses what answers each prompt, and where
        the model's attention has no place for trees, or none for padding.
        """
        drawn, by_row = settings.searches or settings.top_k > 1, editor is not None and editor.answers_by_row
        if drawn or by_row or not (lm.runs_trees and takes_left_padding(lm)):
            return None
        limits: dict[Ids, int] = {}
        for pair in asked:
            if (limit := settings.limit(lm, *pair)) is not None:
                ids = given_ids(lm, pair[0], limit, editor)
                limits[ids] = max(limit, limits.get(ids, 0))
        return cls(lm, limits, tokens_per_batch)

    def take(self, keys: Sequence[Key], tree: TokenTree, kept: KeysAndValues, argmax: Sequence[Sequence[int]]) -> None:
        """Begin the answers to the prompts of a scored tree; as many as fit into a batch then go on.

        Args:
            keys: Of the tree's rows.
            kept: Keys and values of its tokens.
            argmax: The model's tokens in the places of each row's target.
        """
        longest: dict[Ids, tuple[int, int]] = {}  # tokens of the beginning, and the row
        for i, ((prompt, target, lead), own) in enumerate(zip(keys, argmax, strict=True)):
            if prompt in self._limits and prompt not in self._seen and lead is None:
                common = next((n for n, (a, b) in enumerate(zip(own, target, strict=True)) if a != b), len(target))
                common = min(common, len(target) - 1, self._limits[prompt] - 1)
                longest[prompt] = max(longest.get(prompt, (-1, -1)), (common, i))
        begun = {prompt: [*keys[i][1][:n], argmax[i][n]] for prompt, (n, i) in longest.items()}
        self._seen |= set(begun)
        ended = [prompt for prompt, new in begun.items() if self._has_ended(new, self._limits[prompt])]
        for prompt in ended:
            self._keep(prompt, begun.pop(prompt))
        if begun:
            paths = [tree.paths[longest[prompt][1]][: len(prompt) + longest[prompt][0]] for prompt in begun]
            self._waiting.append(_waiting(begun, paths, kept))
        waiting = [prompt for part in self._waiting for prompt in part.prompts]
        if len(waiting) * max((len(prompt) + self._limits[prompt] for prompt in waiting), default=0) >= self._budget:
            self.finish()

    def finish(self) -> None:
        """Go on with all that waits."""
        parts, self._waiting = self._waiting, []
        if not parts:
            return
        lm, width = self._lm, max(int(part.lengths.max()) for part in parts)
        prompts = [prompt for part in parts for prompt in part.prompts]
        begun = [new for part in parts for new in part.begun]
        lengths = torch.cat([part.lengths for part in parts])[:, None].to(lm.device)  # (B, 1)
        mask = torch.arange(width + 1, device=lm.device) >= width - lengths  # (B, T + 1), the last begun token's too
        ids = torch.tensor([new[-1:] for new in begun], device=lm.device)
        limits = [self._limits[prompt] - len(new) for prompt, new in zip(prompts, begun, strict=True)]
        new = step_by_step(lm, _joined(lm, parts, width), ids, mask.long(), lengths, limits)
        for prompt, first, rest in zip(prompts, begun, new.tolist(), strict=True):
            self._keep(prompt, first + rest)

    def _keep(self, prompt: Ids, new: list[int]) -> None:
        limit = self._limits[prompt]
        self.found[prompt, limit] = before_end(new, self._lm.end_ids)[:limit]

    def _has_ended(self, new: list[int], limit: int) -> bool:
        return len(new) >= limit or not self._lm.end_ids.isdisjoint(new) or NOT_A_NUMBER in new


def _waiting(begun: dict[Ids, list[int]], paths: Sequence[Sequence[int]], kept: KeysAndValues) -> _Waiting:
    lengths = torch.tensor([len(path) for path in paths])
    width = int(lengths.max())
    places = torch.tensor([[0] * (width - len(path)) + list(path) for path in paths])  # (B, T)
    by_layer = {layer: (k[places.to(k.device)], v[places.to(v.device)]) for layer, (k, v) in kept.items()}
    return _Waiting(list(begun), list(begun.values()), lengths, by_layer)


def _joined(lm: LanguageModel, parts: Sequence[_Waiting], width: int) -> Cache:
    """A cache with the keys and values of all rows, padded on the left to ``width`` columns; the parts keep none."""
    from transformers import DynamicCache

    cache = DynamicCache(config=lm.config)
    for layer in range(lm.n_layers):
        by_part = zip(*(part.kept.pop(layer) for part in parts), strict=True)  # not kept twice
        keys, values = (torch.cat([_widened(one, width) for one in some]) for some in by_part)
        cache.update(keys, values, layer)
    return cache


def _widened(tensor: Tensor, width: int) -> Tensor:
    """(B, heads, width, head size) of keys or values (B, T, heads, head size)."""
    return pad(tensor.transpose(1, 2), (0, 0, width - tensor.shape[1], 0))

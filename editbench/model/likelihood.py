"""Likelihood of given targets after given prompts, the gold prefix fed in (teacher forcing).

All pairs run as a token tree, common beginnings once. Where an editor chooses what answers each prompt, prompts are
rows of their own, which hold several targets if the model takes packed rows
(:mod:`editbench.model.packed_targets`). The head is applied only to the outputs that predict a target token.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from editbench.checks import at_least, unknown
from editbench.model.batching import partition
from editbench.model.packed_targets import (
    Ids,
    Layout,
    Pair,
    Row,
    Tokeniser,
    attention_mask,
    lay_out,
    merge,
    takes_packed_rows,
)
from editbench.model.partial_forward import mlp_only_at_tokens, run_tree
from editbench.model.token_tree import TokenTree
from editbench.progress import progress
from editbench.records import Route, Routing

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.model.tree_attention import KeysAndValues

_log = logging.getLogger(__name__)

VERSION = 3
"""Changes with the numbers of :func:`score_targets`; part of the key of the cached answers of the unedited model."""

CPU_TOKENS, GPU_TOKENS = 512, 16_384
"""Tokens of a batch, padding included: on a CPU its activations must stay in the processor's caches."""

KEPT_TOKENS = 4_096
"""Tokens of a batch at most whose keys and values are kept: half a MB each in models of seven billion weights."""

NOT_A_NUMBER = -1
"""Token id in place of an argmax over logits that are NaN."""

_MAX_LOGITS = 2**24  # elements at once: 64 MiB of float32

Key = tuple[Ids, Ids, "int | None"]
"""Prompt, target and lead of a pair."""


class Answering(Protocol):
    """The part of :class:`editbench.editor.Editor` that running the edited model needs."""

    @property
    def answers_by_row(self) -> bool:
        """Whether :meth:`answering` needs each prompt in a row of its own."""

    def asked(self, prompt: str) -> str:
        """The text that the model is given for a prompt; it ends with the prompt."""

    def answering(self, last_prompt_columns: Sequence[int]) -> AbstractContextManager[Routing | None]:
        """Context manager around a forward pass whose rows' prompts end in these columns."""

    def for_texts(self) -> Answering:
        """The editor that is used where text collections are scored."""

    def route(self, prompts: Sequence[str]) -> list[Route] | None:
        """The edit that answers each prompt; None where edits are in weights that all prompts share."""


class TakesTrees(Protocol):
    """:class:`editbench.model.going_on.GoingOn`, as scoring sees it."""

    def take(self, keys: Sequence[Key], tree: TokenTree, kept: KeysAndValues, argmax: Sequence[Sequence[int]]) -> None:
        """A tree was scored."""

    def finish(self) -> None:
        """It was the last one."""


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt and targets to score after it, without the space between.

    With an empty prompt a target is a text of its own, scored from its second token on; an editor chooses what answers
    in its middle (:func:`~editbench.model.packed_targets.lead_of`).
    """

    prompt: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TargetScore:
    """Likelihood of one target, gold prefix fed in.

    ``nll`` is the mean negative log-likelihood per target token, nats; NaN without scored tokens, NaN or infinite where
    the model gives that. ``routed``: whether an edit beside the weights answered; None where edits are in weights that
    all prompts share, and where nothing was scored.
    """

    nll: float
    correct: tuple[bool, ...]  # per target token, whether it is the argmax
    argmax: Ids  # per target token; NOT_A_NUMBER where the logits are NaN
    cut: bool = False  # prompt or target lost tokens because the model takes no more
    routed: bool | None = None

    @property
    def tokens(self) -> int:
        """Scored target tokens."""
        return len(self.argmax)

    @property
    def finite(self) -> bool:
        """Whether the model gave numbers; true where nothing was scored."""
        return NOT_A_NUMBER not in self.argmax and not math.isinf(self.nll)

    def first(self) -> TargetScore:
        """The first argmax alone, without likelihood: for probes where no target is known to be right."""
        return replace(self, nll=math.nan, correct=(), argmax=self.argmax[:1])


def score_targets(
    lm: LanguageModel,
    queries: Sequence[Query],
    *,
    editor: Answering | None = None,
    tokens_per_batch: int | None = None,
    padding_side: str = "right",
    max_target_tokens: int | None = None,
    going_on: TakesTrees | None = None,
) -> list[tuple[TargetScore, ...]]:
    """Score all targets of all queries; equal prompts share a row, equal targets of a prompt are scored once.

    Args:
        editor: Puts its text in front of prompts, and learns where each row's prompt ends; None: the unedited model.
        tokens_per_batch: Tokens of a batch, padding included; None: :data:`CPU_TOKENS` or :data:`GPU_TOKENS`.
        padding_side: Of padded rows, "right" or "left"; the numbers are the same up to rounding.
        max_target_tokens: Tokens kept of each target; None: all.
        going_on: Is given each tree that was scored.
    """
    tokenise = Tokeniser(lm, max_target_tokens, editor.asked if editor is not None else None)
    pairs = [tokenise(query.prompt, target) for query in queries for target in query.targets]
    options: Any = {"editor": editor, "tokens_per_batch": tokens_per_batch, "padding_side": padding_side}
    scores = iter(score_pairs(lm, pairs, **options, going_on=going_on))
    return [tuple(islice(scores, len(query.targets))) for query in queries]


@torch.no_grad()
def score_pairs(
    lm: LanguageModel,
    pairs: Sequence[Pair],
    *,
    editor: Answering | None = None,
    tokens_per_batch: int | None = None,
    padding_side: str = "right",
    going_on: TakesTrees | None = None,
) -> list[TargetScore]:
    """:func:`score_targets` for token ids: one :class:`TargetScore` per pair, in order."""
    if padding_side not in ("left", "right"):
        raise unknown("padding side", padding_side, ("left", "right"))
    at_least(1, tokens_per_batch=tokens_per_batch)
    if cut := sum(pair.cut for pair in pairs):
        message = "%d of %d questions are longer than the %d tokens that %s takes; they were cut"
        _log.warning(message, cut, len(pairs), lm.max_length, lm.name)
    budget = tokens_per_batch or (CPU_TOKENS if lm.device.type == "cpu" else GPU_TOKENS)
    found: dict[Key, TargetScore] = {}
    if lm.runs_trees and not (editor is not None and editor.answers_by_row):
        keys = list(dict.fromkeys((pair.prompt, pair.target, pair.lead) for pair in pairs if pair.target))
        with progress("answering", total=len(keys)) as advance:
            for some in _tree_batches(keys, min(budget, KEPT_TOKENS) if going_on is not None else budget):
                found.update(zip(some, _score_tree(lm, some, going_on), strict=True))
                advance(len(some))
        if going_on is not None:
            going_on.finish()
    else:
        rows = merge(pairs, packed=takes_packed_rows(lm))
        with progress("answering", total=len(rows)) as advance:
            for part in partition([row.width for row in rows], lm.device, budget):
                found.update(_score_batch(lm, [rows[i] for i in part], editor, padding_side))
                advance(len(part))
    nothing = TargetScore(math.nan, (), ())
    scores = [found[pair.prompt, pair.target, pair.lead] if pair.target else nothing for pair in pairs]
    return [replace(score, cut=True) if pair.cut else score for pair, score in zip(pairs, scores, strict=True)]


def _tree_batches(keys: Sequence[Key], budget: int) -> Iterator[list[Key]]:
    """Pairs in lexical order, as many together as run ``budget`` tokens; a longer pair is a batch of its own."""
    batch: list[Key] = []
    tokens, before = 0, ()  # type: tuple[int, Ids]
    for key in sorted(keys, key=lambda key: (key[0] + key[1], len(key[0]), key[2] or 0)):
        row = key[0] + key[1][:-1]
        common = next(
            (i for i, (a, b) in enumerate(zip(before, row, strict=False)) if a != b), min(len(before), len(row))
        )
        if batch and tokens + len(row) - common > budget:
            yield batch
            batch, tokens, common = [], 0, 0
        batch.append(key)
        tokens, before = tokens + len(row) - common, row
    if batch:
        yield batch


def _score_tree(lm: LanguageModel, keys: Sequence[Key], going_on: TakesTrees | None) -> list[TargetScore]:
    tree = TokenTree.of(lm, [prompt + target[:-1] for prompt, target, _ in keys])
    outputs = [path[len(prompt) - 1 :] for path, (prompt, _, _) in zip(tree.paths, keys, strict=True)]
    needed, places = torch.unique(torch.tensor([i for some in outputs for i in some]), return_inverse=True)
    gold = torch.tensor([token for _, target, _ in keys for token in target])
    tokens = needed.to(lm.device)
    kept: KeysAndValues | None = None if going_on is None else {}
    with mlp_only_at_tokens(lm, lm.n_layers - 1, tree, tokens):
        final = run_tree(lm, tree, record=kept)
    nll, argmax = _nll_and_argmax(lm, final[tokens.to(final.device)], places, gold)
    ends = [*accumulate(len(target) for _, target, _ in keys)]
    scores = [
        _target_score(target, nll[end - len(target) : end], argmax[end - len(target) : end])
        for (_, target, _), end in zip(keys, ends, strict=True)
    ]
    if going_on is not None and kept is not None:
        going_on.take(keys, tree, kept, [score.argmax for score in scores])
    return scores


def _target_score(target: Ids, nll: Sequence[float], argmax: Sequence[int], routed: bool | None = None) -> TargetScore:
    correct = tuple(a == gold for a, gold in zip(argmax, target, strict=True))
    return TargetScore(sum(nll) / len(target), correct, tuple(argmax), routed=routed)


def last_hidden_states(lm: LanguageModel, layout: Layout) -> Tensor:
    """The decoder's output for a batch, (B, T, d)."""
    hidden: Tensor = lm.decoder(
        input_ids=layout.input_ids,
        attention_mask=attention_mask(lm, layout),
        position_ids=layout.position_ids,
        use_cache=False,
    ).last_hidden_state
    return hidden


def _score_batch(
    lm: LanguageModel, rows: list[Row], editor: Answering | None, padding_side: str
) -> Iterator[tuple[Key, TargetScore]]:
    layout = lay_out(rows, side=padding_side, pad_id=lm.pad_id, device=lm.device)
    with editor.answering(layout.last_prompt_columns) if editor is not None else nullcontext() as routing:
        hidden = last_hidden_states(lm, layout)
        row, column = layout.needed.to(hidden.device)
        nll, argmax = _nll_and_argmax(lm, hidden[row, column], layout.places, layout.gold)
        routed = [None] * len(rows) if routing is None else [id is not None for id in routing.answered_by]
    start = 0
    keys = (((r.prompt, t, r.lead), by_edit) for r, by_edit in zip(rows, routed, strict=True) for t in r.targets)
    for key, by_edit in keys:
        span = slice(start, start + len(key[1]))
        yield key, _target_score(key[1], nll[span], argmax[span], by_edit)
        start = span.stop


def _nll_and_argmax(lm: LanguageModel, hidden: Tensor, places: Tensor, gold: Tensor) -> tuple[list[float], list[int]]:
    """NLL and argmax for each gold token (M,), at its place (M,) in ``hidden`` (N, d), some logits at a time."""
    step = max(1, _MAX_LOGITS // int(lm.config.vocab_size))
    nll = torch.empty(len(gold), dtype=torch.float64)
    argmax = torch.empty(len(gold), dtype=torch.int64)
    for start in range(0, len(hidden), step):
        log_p = torch.log_softmax(lm.logits(hidden[start : start + step]), dim=-1)  # (n, V), float32 or wider
        inside = (places >= start) & (places < start + step)
        rows = (places[inside] - start).to(log_p.device)
        nll[inside] = -log_p[rows, gold[inside].to(log_p.device)].cpu().double()
        argmax[inside] = log_p.argmax(dim=-1)[rows].cpu()
    argmax[nll.isnan()] = NOT_A_NUMBER
    return nll.tolist(), argmax.tolist()

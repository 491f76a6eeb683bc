"""How likely are given targets after given prompts? Here the evaluation runs the model on answers that are given.

Every distinct prompt runs through the model once for all its targets, and the head is applied only to the outputs that
predict a target token. How rows are laid out is told in :mod:`editbench.model.packed_targets`, which models take such
rows in :mod:`editbench.model.packed_targets`; all others run once for each prompt and target of several tokens.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import torch

from editbench.checks import unknown
from editbench.model.batching import batches
from editbench.model.packed_targets import Ids, Pair, Row, Tokeniser, attention_mask, lay_out, merge, takes_packed_rows
from editbench.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from editbench.model.language_model import LanguageModel
    from editbench.records import Route, Routing


_log = logging.getLogger(__name__)

VERSION = 3
"""Changes with the numbers that :func:`answer` gives; part of the baseline cache's key."""

CPU_TOKENS, GPU_TOKENS = 512, 16_384
"""Batch sizes: a CPU is fastest while a batch's activations stay in its caches, a GPU with much to do at once."""

NO_ANSWER = -1
"""Stands for the argmax where the logits are not numbers."""

_LOGITS_AT_ONCE = 2**24  # elements: 64 MiB of float32

Key = tuple[Ids, Ids, "int | None"]
"""Prompt, target and lead of a pair."""


class Answering(Protocol):
    """What is used of an editor: it learns where each row's prompt ends, and may tell which edit answers."""

    def answering(self, last_prompt_columns: Sequence[int]) -> AbstractContextManager[Routing | None]:
        """Context manager around a forward pass; see :meth:`editbench.editor.Editor.answering`."""

    def for_texts(self) -> Answering:
        """What is used in its place where text collections are scored."""

    def route(self, prompts: Sequence[str]) -> list[Route] | None:
        """Which edit answers each prompt; None where edits are in weights that all prompts share."""


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt and the targets whose likelihood after it is asked for.

    Targets are given without the space that separates them from the prompt. With an empty prompt a target is a text of
    its own, scored from its second token on; an editor chooses what answers in its middle
    (:func:`~editbench.model.packed_targets.lead_of`).
    """

    prompt: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says to one target, gold prefix fed in (teacher forcing).

    Attributes:
        nll: Mean negative log-likelihood per target token, nats; NaN without scored tokens, NaN or infinite where the
            model gives that.
        correct: Per target token, whether it is the argmax.
        argmax: Per target token, the id of the argmax; :data:`NO_ANSWER` where the logits are not numbers.
        cut: Prompt or target lost tokens because the model takes no more.
        routed: Whether an edit beside the weights answered; None where edits are in weights that all prompts share,
            and where nothing was scored.
    """

    nll: float
    correct: tuple[bool, ...]
    argmax: Ids
    cut: bool = False
    routed: bool | None = None

    @property
    def tokens(self) -> int:
        """Scored target tokens."""
        return len(self.argmax)

    @property
    def finite(self) -> bool:
        """Whether the model gave numbers; true where nothing was scored."""
        return NO_ANSWER not in self.argmax and not math.isinf(self.nll)

    def first(self) -> Answer:
        """The first argmax alone, without likelihood: what can be said where no target is known to be right."""
        return replace(self, nll=math.nan, correct=(), argmax=self.argmax[:1])


def answer(
    lm: LanguageModel,
    queries: Sequence[Query],
    *,
    editor: Answering | None = None,
    tokens_per_batch: int | None = None,
    padding_side: str = "right",
    max_target_tokens: int | None = None,
) -> list[tuple[Answer, ...]]:
    """Score all targets of all queries.

    Equal prompts of different queries are one row, equal targets of a prompt are scored once.

    Args:
        lm: The model.
        queries: In any order; their length may vary.
        editor: Told through ``answering`` where each row's prompt ends.
        tokens_per_batch: Largest padded size of a batch, rows times columns; by default :data:`CPU_TOKENS` or
            :data:`GPU_TOKENS`.
        padding_side: "right" or "left"; the numbers are the same up to rounding.
        max_target_tokens: Keep this many tokens of each target.

    Returns:
        Per query, in order, one :class:`Answer` per target.

    Raises:
        ValueError: Unknown padding side, or a budget below one token.
    """
    tokenise = Tokeniser(lm, max_target_tokens)
    pairs = [tokenise(query.prompt, target) for query in queries for target in query.targets]
    answers = iter(answer_pairs(lm, pairs, editor=editor, tokens_per_batch=tokens_per_batch, padding_side=padding_side))
    return [tuple(islice(answers, len(query.targets))) for query in queries]


@torch.no_grad()
def answer_pairs(
    lm: LanguageModel,
    pairs: Sequence[Pair],
    *,
    editor: Answering | None = None,
    tokens_per_batch: int | None = None,
    padding_side: str = "right",
) -> list[Answer]:
    """:func:`answer` for what is token ids already: one :class:`Answer` per pair, in order."""
    if padding_side not in ("left", "right"):
        raise unknown("padding side", padding_side, ("left", "right"))
    budget = tokens_per_batch
    if budget is None:
        budget = CPU_TOKENS if lm.device.type == "cpu" else GPU_TOKENS
    if budget < 1:
        raise ValueError(f"tokens_per_batch is {tokens_per_batch}; it must be at least 1")
    _warn_of_cuts(lm, pairs)
    rows = merge(pairs, packed=takes_packed_rows(lm))
    found: dict[Key, Answer] = {}
    with progress("answering", total=len(rows)) as advance:
        for batch in batches(rows, budget):
            found.update(_answer_batch(lm, batch, editor, padding_side))
            advance(len(batch))
    return [_look_up(found, pair) for pair in pairs]


def _look_up(found: dict[Key, Answer], pair: Pair) -> Answer:
    one = found[pair.prompt, pair.target, pair.lead] if pair.target else Answer(math.nan, (), ())
    return replace(one, cut=True) if pair.cut else one


def _warn_of_cuts(lm: LanguageModel, pairs: Sequence[Pair]) -> None:
    counts = Counter(pair.cut for pair in pairs)
    if counts[True]:
        _log.warning(
            "%d of %d questions are longer than the %d tokens that %s takes; they were cut",
            counts[True],
            counts.total(),
            lm.max_length,
            lm.name,
        )


def _answer_batch(
    lm: LanguageModel, rows: list[Row], editor: Answering | None, padding_side: str
) -> Iterator[tuple[Key, Answer]]:
    """Answers to all targets of the rows, with their keys."""
    layout = lay_out(rows, side=padding_side, pad_id=lm.pad_id, device=lm.device)
    with editor.answering(layout.last_prompt_columns) if editor is not None else nullcontext() as routing:
        hidden = lm.decoder(
            input_ids=layout.input_ids,
            attention_mask=attention_mask(lm, layout),
            position_ids=layout.position_ids,
            use_cache=False,
        ).last_hidden_state  # (B, T, d)
        row, column = layout.needed.to(hidden.device)
        nll, argmax = _nll_and_argmax(lm, hidden[row, column], layout.places, layout.gold)
        routed = [None] * len(rows) if routing is None else [id is not None for id in routing.answered_by]
    done = 0
    keys = ((fired, (one.prompt, t, one.lead)) for one, fired in zip(rows, routed, strict=True) for t in one.targets)
    for fired, key in keys:
        span = slice(done, done + len(key[1]))
        best = tuple(argmax[span])
        correct = tuple(a == gold for a, gold in zip(best, key[1], strict=True))
        yield key, Answer(sum(nll[span]) / len(best), correct, best, routed=fired)
        done = span.stop


def _nll_and_argmax(lm: LanguageModel, hidden: Tensor, places: Tensor, gold: Tensor) -> tuple[list[float], list[int]]:
    """NLL of each gold token and the argmax at its place, without all logits standing in memory at once.

    Args:
        lm: Gives the head.
        hidden: (N, d) outputs.
        places: (M,) the output that predicts each gold token.
        gold: (M,) token ids.
    """
    step = max(1, _LOGITS_AT_ONCE // int(lm.config.vocab_size))
    nll = torch.empty(len(gold), dtype=torch.float64)
    argmax = torch.empty(len(gold), dtype=torch.int64)
    for start in range(0, len(hidden), step):
        log_p = torch.log_softmax(lm.logits(hidden[start : start + step]), dim=-1)  # (n, V), float32 or wider
        inside = (places >= start) & (places < start + step)
        rows = (places[inside] - start).to(log_p.device)
        nll[inside] = -log_p[rows, gold[inside].to(log_p.device)].cpu().double()
        argmax[inside] = log_p.argmax(dim=-1)[rows].cpu()
    argmax[nll.isnan()] = NO_ANSWER
    return nll.tolist(), argmax.tolist()

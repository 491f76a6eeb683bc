"""From questions to tensors: tokenise, cut, merge, batch, and lay out rows in which several targets share a prompt.

Shape letters: B rows of a batch, T columns, N outputs that the head must see, M target tokens to score.

A packed row holds the prompt once and its targets side by side, without each target's last token (which is scored but
never fed in):

    columns     p0 p1 p2 | a0 a1 | b0          targets: a0 a1 a2 / b0 b1
    positions    0  1  2 |  3  4 |  3
    scored            a0   a1 a2   b1          under the column whose output predicts it
                      b0

A mask lets each target see the prompt and itself only. Targets of one token take no column at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from editbench.model.language_model import LanguageModel


Ids = tuple[int, ...]

SHARED = 64
"""Columns that targets may take in a row whose prompt is no longer than that: sharing a short prompt saves little, and
attention and its mask grow with the square of the row."""


class Pair(NamedTuple):
    """A prompt and one target as token ids.

    Attributes:
        prompt: What is fed in and not scored; not empty.
        target: What is scored.
        cut: One of them was too long for the model and lost tokens.
        lead: How many tokens, prompt and target put together, an editor is told to be the prompt, at whose end it
            chooses what answers; None for the prompt itself. A text without a prompt has one (:func:`lead_of`).
    """

    prompt: Ids
    target: Ids
    cut: bool = False
    lead: int | None = None


class Tokeniser:
    """Token ids of prompts and targets, cut to what the model takes. Remembers the texts that it has seen.

    Without a prompt the target is a text of its own. It is cut to what the model takes, and its first token (BOS, if
    the tokenizer adds one) is fed in, but not scored: nothing predicts it.

    Too long a pair loses the prompt's beginning first (its BOS stays), then the target's end.
    """

    def __init__(self, lm: LanguageModel, max_target_tokens: int | None = None) -> None:
        """Set up.

        Args:
            lm: Gives tokenizer and length.
            max_target_tokens: Keep this many tokens of a target (of the whole text, where there is no prompt).
        """
        self._limit = lm.max_length + 1  # a target's last token is not fed in
        self._bos = lm.tokenizer.bos_token_id
        self._max_target_tokens = max_target_tokens
        self._encode = cache(lambda text: tuple(lm.encode(text).ids))
        self._continue = cache(lambda text: tuple(lm.continuation(text)))

    def __call__(self, prompt: str, target: str) -> Pair:
        """The pair's ids."""
        head: Ids = self._encode(prompt) if prompt else ()
        if head:
            return self._cut(head, self._continue(target)[: self._max_target_tokens])
        whole: Ids = self._encode(target)[: self._max_target_tokens]
        kept = whole[: self._limit]
        return Pair(kept[:1], kept[1:], cut=len(whole) > self._limit, lead=lead_of(kept, self._bos))

    def _cut(self, head: Ids, tail: Ids) -> Pair:
        keep = 1 if head[:1] == (self._bos,) else 0
        room = max(self._limit - len(tail), keep + 1)
        kept = head if len(head) <= room else head[:keep] + head[len(head) - room + keep :]
        fits = tail[: self._limit - len(kept)]
        return Pair(kept, fits, cut=(len(kept), len(fits)) != (len(head), len(tail)))


def lead_of(text: Ids, bos: int | None) -> int:
    """How many tokens of a text that has no prompt stand for its prompt.

    They are the first half, rounded down, a BOS beside them, and at least one. So methods whose edits lie beside the
    weights choose what answers on the ground of some text. What is scored does not depend on it.
    """
    before = 1 if text[:1] == (bos,) else 0
    return max(1, before + (len(text) - before) // 2)


@dataclass(frozen=True)
class Row:
    """One row of a batch: a prompt and the targets that share it, none of them empty; ``lead`` as in :class:`Pair`."""

    prompt: Ids
    targets: tuple[Ids, ...]
    lead: int | None = None

    @cached_property
    def width(self) -> int:
        """Columns."""
        return len(self.prompt) + sum(len(t) - 1 for t in self.targets)

    def pack(self) -> list[Row]:
        """The same targets in rows whose targets take no more columns than the prompt, or than :data:`SHARED`."""
        most = max(SHARED, len(self.prompt))
        parts: list[list[Ids]] = [[]]
        taken = 0
        for target in self.targets:
            if parts[-1] and taken + len(target) - 1 > most:
                parts.append([])
                taken = 0
            parts[-1].append(target)
            taken += len(target) - 1
        return [Row(self.prompt, tuple(part)) for part in parts]

    def split(self) -> list[Row]:
        """The same targets in rows that are not packed; targets of one token ride with the first."""
        short = tuple(t for t in self.targets if len(t) == 1)
        long = [t for t in self.targets if len(t) > 1]
        return [Row(self.prompt, (*short, *long[:1])), *(Row(self.prompt, (t,)) for t in long[1:])]


def merge(pairs: Iterable[Pair], *, packed: bool) -> list[Row]:
    """Rows for all distinct pairs, in the order in which the prompts come.

    Pairs without a target token have nothing to score and get no row; those with a lead get one of their own.

    Args:
        pairs: May repeat prompts and targets.
        packed: Whether a row may hold several targets that take columns; see :meth:`Row.pack`.
    """
    targets_of: dict[Ids, dict[Ids, None]] = {}
    alone: dict[Row, None] = {}
    for pair in pairs:
        if pair.target and pair.lead is not None:
            alone[Row(pair.prompt, (pair.target,), pair.lead)] = None
        elif pair.target:
            targets_of.setdefault(pair.prompt, {})[pair.target] = None
    rows = [Row(prompt, tuple(targets)) for prompt, targets in targets_of.items()]
    return [*(part for row in rows for part in (row.pack() if packed else row.split())), *alone]


PADDING, PROMPT = -1, 0
"""Segments of a row's columns; its targets are 1, 2, …"""


@dataclass(frozen=True)
class Layout:
    """A batch as tensors: the first three on the model's device, the rest on the CPU.

    Attributes:
        input_ids: (B, T) int64.
        position_ids: (B, T) int64, in each target's own sequence; 0 in padding.
        segments: (B, T) int64, what a column belongs to: :data:`PADDING`, :data:`PROMPT`, or a target's number.
        last_prompt_columns: For each row, the column of its last prompt token, or of the last of its lead.
        needed: (2, N) int64, row and column of each output that predicts a scored token.
        places: (M,) int64, for each target token, targets in order, the index into ``needed`` of its output.
        gold: (M,) int64, that token.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: Tensor
    last_prompt_columns: list[int]
    needed: Tensor
    places: Tensor
    gold: Tensor


def lay_out(rows: Sequence[Row], *, side: str, pad_id: int, device: torch.device) -> Layout:
    """Pad rows on one side ("left" or "right"), and find the places of what is scored."""
    width = max(row.width for row in rows)
    columns = torch.empty((3, len(rows), width), dtype=torch.int64)  # ids, positions, segments
    last_prompt_columns: list[int] = []
    needed: list[tuple[int, int]] = []
    places: list[int] = []
    for b, row in enumerate(rows):
        start = width - row.width if side == "left" else 0
        columns[:, b] = torch.tensor([pad_id, 0, PADDING])[:, None]
        columns[:, b, start : start + row.width] = torch.tensor(_columns(row))
        last = start + len(row.prompt) - 1
        last_prompt_columns.append(last if row.lead is None else start + row.lead - 1)
        places += [len(needed) + step for step in _steps(row)]
        needed += [(b, column) for column in range(last, start + row.width)]
    ids, positions, segments = columns.to(device)
    return Layout(
        input_ids=ids,
        position_ids=positions,
        segments=segments,
        last_prompt_columns=last_prompt_columns,
        needed=torch.tensor(needed).T,
        places=torch.tensor(places),
        gold=torch.tensor([token for row in rows for target in row.targets for token in target]),
    )


def _columns(row: Row) -> tuple[list[int], list[int], list[int]]:
    """Ids, positions and segments of a row's columns."""
    length = len(row.prompt)
    ids, positions, segments = list(row.prompt), list(range(length)), [PROMPT] * length
    for number, target in enumerate(row.targets, start=1):
        fed = len(target) - 1
        ids += target[:-1]
        positions += range(length, length + fed)
        segments += [number] * fed
    return ids, positions, segments


def _steps(row: Row) -> Iterator[int]:
    """For each target token, how many columns behind the prompt's last its output stands."""
    done = 0
    for target in row.targets:
        yield 0
        yield from range(done + 1, done + len(target))
        done += len(target) - 1


_FULL, _SLIDING = "full_attention", "sliding_attention"


def takes_packed_rows(lm: LanguageModel) -> bool:
    """Whether the model takes masks of ours, and so rows that hold several targets."""
    return (
        lm.architecture.packed_targets
        and lm.config._attn_implementation in ("sdpa", "eager")
        and set(getattr(lm.config, "layer_types", None) or ()) <= {_FULL, _SLIDING}
    )


def attention_mask(lm: LanguageModel, layout: Layout) -> Tensor | dict[str, Tensor]:
    """The mask that the model takes for a batch, as told above.

    Returns:
        (B, T) int64, 1 where there is a token, where rows are not packed; else one (B, 1, T, T) in the model's dtype,
        or a dictionary of these by layer type.
    """
    if not takes_packed_rows(lm):
        return (layout.segments != PADDING).long()
    window = getattr(lm.config, "sliding_window", None)
    dtype = lm.model.get_input_embeddings().weight.dtype
    if not getattr(lm.config, "layer_types", None):
        return packed_mask(layout.position_ids, layout.segments, dtype, window)
    return {
        _FULL: packed_mask(layout.position_ids, layout.segments, dtype),
        _SLIDING: packed_mask(layout.position_ids, layout.segments, dtype, window),
    }


def packed_mask(positions: Tensor, segments: Tensor, dtype: torch.dtype, window: int | None = None) -> Tensor:
    """Mask to add to the attention scores: 0 where a column sees another, the lowest number where it does not.

    A column sees the prompt and its own segment, up to its own position, no further back than the window. Padding
    sees padding, so that no row of the mask is empty, and nothing else sees it.

    Args:
        positions: (B, T) position of each column in its own sequence.
        segments: (B, T) as in :class:`~editbench.model.packed_targets.Layout`.
        dtype: The model's.
        window: Positions that a column sees, its own included; None for all.

    Returns:
        (B, 1, T, T), query by key.
    """
    back = positions[:, :, None] - positions[:, None, :]  # (B, T, T): how far back the key lies
    query, key = segments[:, :, None], segments[:, None, :]
    sees = (back >= 0) & ((key == query) | ((key == PROMPT) & (query != PADDING)))
    if window is not None:
        sees &= back < window
    lowest = torch.finfo(dtype).min
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill(~sees, lowest)[:, None]

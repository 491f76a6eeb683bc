"""Rows in which several targets share one prompt: tokenised, merged, laid out as tensors, with their attention mask.

Shape letters: B rows of a batch, T columns, N outputs that predict a scored token, M scored target tokens.

A row holds the prompt once and its targets side by side, each without its last token, which is scored but not fed in:

    columns     p0 p1 p2 | a0 a1 | b0          targets: a0 a1 a2 / b0 b1
    positions    0  1  2 |  3  4 |  3
    scored            a0   a1 a2   b1          under the column whose output predicts it
                      b0

The mask lets each target see the prompt and itself only. Targets of one token take no column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

Ids = tuple[int, ...]

MIN_SHARED_COLUMNS = 64
"""The targets of a row may take this many columns, or as many as its prompt: attention grows with the row's square."""


class Pair(NamedTuple):
    """A prompt and one target as token ids."""

    prompt: Ids  # fed in and not scored; not empty
    target: Ids  # scored
    cut: bool = False  # prompt or target was too long for the model and lost tokens
    lead: int | None = None  # tokens of prompt and target at whose end an editor chooses what answers; None: the prompt


class Tokeniser:
    """Token ids of prompts and targets, cut to what the model takes; each text is tokenised once.

    Too long a pair loses the prompt's beginning first (its BOS stays), then the target's end. With an empty prompt the
    target is a text of its own: its first token (BOS, if the tokenizer adds one) is fed in, but not scored.
    """

    def __init__(
        self, lm: LanguageModel, max_target_tokens: int | None = None, asked: Callable[[str], str] | None = None
    ) -> None:
        """Keep ``max_target_tokens`` of a target or text; ``asked`` puts something in front of a prompt or a text."""
        self._limit = lm.max_length + 1  # a target's last token is not fed in
        self._bos = lm.tokenizer.bos_token_id
        self._max_target_tokens = max_target_tokens
        self._encode = cache(lambda text: tuple(lm.encode(text).ids))
        self._continue = cache(lambda text, spaced: tuple(lm.continuation(text, spaced)))
        self._spaced = lm.spaced
        self._asked: Callable[[str], str] = cache(asked) if asked is not None else str

    def __call__(self, prompt: str, target: str) -> Pair:
        """The pair's ids."""
        head: Ids = self._encode(self._asked(prompt)) if prompt else ()
        if not head:
            return self._text(target)
        return self._cut(head, self._continue(target, self._spaced(prompt))[: self._max_target_tokens])

    def ids(self, text: str) -> Ids:
        """The text's own tokens, not yet cut to what the model takes."""
        return tuple(self._encode(text)[: self._max_target_tokens])

    def _text(self, text: str) -> Pair:
        whole = self.ids(text)
        kept = whole[: self._limit]
        cut, lead = len(whole) > self._limit, lead_of(kept, self._bos)
        front = self._asked(text).removesuffix(text)
        if not (front and kept):
            return Pair(kept[:1], kept[1:], cut, lead)
        own = () if kept[:1] == (self._bos,) else kept[:1]
        pair = self._cut(self._encode(front) + own, kept[1:])
        return Pair(pair.prompt, pair.target, cut or pair.cut, len(pair.prompt) - 1 + lead)

    def _cut(self, head: Ids, tail: Ids) -> Pair:
        kept = cut_beginning(head, self._limit - len(tail), self._bos)
        fits = tail[: self._limit - len(kept)]
        return Pair(kept, fits, cut=(len(kept), len(fits)) != (len(head), len(tail)))


def cut_beginning(ids: Ids, most: int, bos: int | None) -> Ids:
    """The last ``most`` ids, but one at least; a BOS stays in front of them."""
    keep = 1 if ids[:1] == (bos,) else 0
    most = max(most, keep + 1)
    return ids if len(ids) <= most else ids[:keep] + ids[len(ids) - most + keep :]


def lead_of(text: Ids, bos: int | None) -> int:
    """Tokens of a text without a prompt that stand for its prompt: the first half, rounded down, with BOS; at least 1.

    Methods whose edits lie beside the weights choose what answers at its end. What is scored does not depend on it.
    """
    before = 1 if text[:1] == (bos,) else 0
    return max(1, before + (len(text) - before) // 2)


@dataclass(frozen=True)
class Row:
    """A prompt and the targets that share it, none of them empty; ``lead`` as in :class:`Pair`."""

    prompt: Ids
    targets: tuple[Ids, ...]
    lead: int | None = None

    @cached_property
    def width(self) -> int:
        """Columns that prompt and targets take."""
        return len(self.prompt) + sum(len(t) - 1 for t in self.targets)

    def pack(self) -> list[Row]:
        """The same targets in rows whose targets take at most as many columns as the prompt (or the minimum)."""
        most = max(MIN_SHARED_COLUMNS, len(self.prompt))
        rows = [Row(self.prompt, self.targets[:1])]
        for target in self.targets[1:]:
            longer = Row(self.prompt, (*rows[-1].targets, target))
            if longer.width - len(self.prompt) <= most:
                rows[-1] = longer
            else:
                rows.append(Row(self.prompt, (target,)))
        return rows

    def split(self) -> list[Row]:
        """The same targets in rows with one target that takes columns each; targets of one token go with the first."""
        short = tuple(t for t in self.targets if len(t) == 1)
        long = [t for t in self.targets if len(t) > 1]
        return [Row(self.prompt, (*short, *long[:1])), *(Row(self.prompt, (t,)) for t in long[1:])]


def merge(pairs: Iterable[Pair], *, packed: bool) -> list[Row]:
    """Rows for all distinct pairs with a target, by the prompts' first appearance, those with a lead alone."""
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
"""Segments of a row's columns; the targets are 1, 2, …"""


@dataclass(frozen=True)
class Layout:
    """A batch as tensors, all int64: the first three on the model's device, the rest on the CPU."""

    input_ids: Tensor  # (B, T)
    position_ids: Tensor  # (B, T), in each target's own sequence; 0 in padding
    segments: Tensor  # (B, T): PADDING, PROMPT, or a target's number
    last_prompt_columns: list[int]  # by row, the column of the last token of its prompt, or of its lead
    needed: Tensor  # (2, N), row and column of each output that predicts a scored token
    places: Tensor  # (M,), by target token, targets in order: index into `needed` of the output that predicts it
    gold: Tensor  # (M,), the target tokens


def lay_out(rows: Sequence[Row], *, side: str, pad_id: int, device: torch.device) -> Layout:
    """Pad rows on one side ("left" or "right"), and find the outputs that are scored."""
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
    gold = torch.tensor([token for row in rows for target in row.targets for token in target])
    ids, positions, segments = columns.to(device)
    scored = torch.tensor(needed).T, torch.tensor(places), gold
    return Layout(ids, positions, segments, last_prompt_columns, *scored)


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
    """By target token, how many columns behind the prompt's last one its output stands."""
    done = 0
    for target in row.targets:
        yield 0
        yield from range(done + 1, done + len(target))
        done += len(target) - 1


FULL, SLIDING = "full_attention", "sliding_attention"
"""Kinds of layers, in the words of transformers' configs."""


def takes_packed_rows(lm: LanguageModel) -> bool:
    """Whether the model takes a mask made here, and so rows that hold several targets."""
    return (
        lm.architecture.packed_targets
        and lm.config._attn_implementation in ("sdpa", "eager")
        and set(getattr(lm.config, "layer_types", None) or ()) <= {FULL, SLIDING}
    )


def attention_mask(lm: LanguageModel, layout: Layout) -> Tensor | dict[str, Tensor]:
    """The mask of a batch: (B, T) int64, 1 at tokens, for models without packed rows; else that of :func:`packed_mask`.

    Models with layers of several types get one by type.
    """
    if not takes_packed_rows(lm):
        return (layout.segments != PADDING).long()
    window = getattr(lm.config, "sliding_window", None)
    dtype = lm.model.get_input_embeddings().weight.dtype
    if not getattr(lm.config, "layer_types", None):
        return packed_mask(layout.position_ids, layout.segments, dtype, window)
    return {
        FULL: packed_mask(layout.position_ids, layout.segments, dtype),
        SLIDING: packed_mask(layout.position_ids, layout.segments, dtype, window),
    }


def packed_mask(positions: Tensor, segments: Tensor, dtype: torch.dtype, window: int | None = None) -> Tensor:
    """Mask to add to attention scores, (B, 1, T, T), query by key: 0 where seen, the dtype's lowest number elsewhere.

    A column sees the prompt and its own segment, up to its own position and no further back than the window, which
    counts its own position. Padding sees padding, so that no row of the mask is empty, and nothing else sees padding.
    """
    back = positions[:, :, None] - positions[:, None, :]  # (B, T, T)
    query, key = segments[:, :, None], segments[:, None, :]
    sees = (back >= 0) & ((key == query) | ((key == PROMPT) & (query != PADDING)))
    if window is not None:
        sees &= back < window
    lowest = torch.finfo(dtype).min
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill(~sees, lowest)[:, None]

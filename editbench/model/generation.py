"""Generated answers: greedy, sampled or by beam search, in batches with a key-value cache.

Shape letters: B rows of a batch, T columns of the padded prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.checks import above_zero, at_least
from editbench.model.batching import batches
from editbench.model.devices import in_float64
from editbench.model.likelihood import NOT_A_NUMBER, Answering
from editbench.model.packed_targets import Ids, Row, cut_beginning
from editbench.progress import progress

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

    from editbench.model.language_model import LanguageModel

VERSION = 3
"""Changes with the texts of :func:`generate`; part of the key of the cached answers of the unedited model."""

MARGIN = 5
"""Tokens beyond the target's: they show whether the answer ends there."""

MAX_NEW_TOKENS = 128
"""Limit of new tokens where the settings give none."""

CPU_TOKENS, GPU_TOKENS = 2_048, 65_536
"""Padded tokens of a batch, prompts with their new tokens; a step runs one column of each row."""


Answers = Mapping[tuple[Ids, int], list[int]]
"""New tokens by the ids that the model was given and the limit of new ones."""


@dataclass(frozen=True)
class Generation:
    """Settings of generation."""

    max_new_tokens: int | None = None  # None: the target's tokens + MARGIN, at most MAX_NEW_TOKENS
    beams: int = 1  # beams of the search; 1 is greedy
    repetition_penalty: float = 1.0  # divides (multiplies, if negative) the logits of earlier tokens; 1 is none
    top_k: int = 1  # each token is drawn among this many likeliest, by their probability; 1 is greedy
    seed: int = 0  # seed of the draws; the draws of a prompt do not depend on the rest of its batch

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1, or null")
        at_least(1, beams=self.beams)
        above_zero(repetition_penalty=self.repetition_penalty)
        if self.top_k < 1 or (self.top_k > 1 and self.searches):
            raise ValueError(f"top_k is {self.top_k}; it must be at least 1, and 1 with beams or a penalty")

    @property
    def searches(self) -> bool:
        """Whether a token depends on more than the logits of its step."""
        return self.beams > 1 or self.repetition_penalty != 1.0

    def limit(self, lm: LanguageModel, prompt: str, target: str) -> int | None:
        """New tokens for a question; None if the target is longer, or the model has no positions for so many."""
        needed = len(lm.continuation(target, lm.spaced(prompt)))
        limit = min(needed + MARGIN, MAX_NEW_TOKENS) if self.max_new_tokens is None else self.max_new_tokens
        fits = len(lm.encode(prompt).ids) + limit <= lm.max_length
        return limit if needed <= limit and fits else None


@dataclass(frozen=True, slots=True)
class Generated:
    """A generated text."""

    text: str  # up to the end-of-sequence token or the limit; no special tokens
    finite: bool = True  # whether the model gave numbers for every token; the text ends at the first without
    whole: str = field(default="", compare=False)  # the plain prompt and the text, decoded together


@torch.no_grad()
def generate(
    lm: LanguageModel,
    prompts: Sequence[str],
    limits: Sequence[int],
    *,
    settings: Generation | None = None,
    editor: Answering | None = None,
    tokens_per_batch: int | None = None,
    known: Answers | None = None,
) -> list[Generated]:
    """Generate a text after each prompt.

    Equal prompts run once, with the largest of their limits; each text is then cut to its own. A search depends on its
    limit, so that each limit runs by itself. Rows are padded on the left. A prompt that is too long for its limit loses
    its beginning (its BOS stays). An editor puts its text in front of prompts; one ``answering`` block spans a batch's
    prompts and new tokens. Without settings, generation is greedy. A batch has ``tokens_per_batch``, rows times
    (prompt + limit); None: :data:`CPU_TOKENS` or :data:`GPU_TOKENS`. What is ``known`` does not run.
    """
    settings = settings or Generation()
    plain = [given_ids(lm, *one) for one in zip(prompts, limits, strict=True)]
    asked = [given_ids(lm, *one, editor) for one in zip(prompts, limits, strict=True)]
    new = _run(lm, list(zip(asked, limits, strict=True)), settings, editor, tokens_per_batch, known or {})
    return [_generated(lm, ids, tokens) for ids, tokens in zip(plain, new, strict=True)]


def generate_answers(
    lm: LanguageModel,
    asked: Sequence[tuple[str, str]],
    settings: Generation,
    *,
    editor: Answering | None = None,
    tokens_per_batch: int | None = None,
    known: Answers | None = None,
) -> list[Generated | None]:
    """The answer to each prompt, given with its target; None where that does not fit (:meth:`Generation.limit`)."""
    limits = {i: n for i, pair in enumerate(asked) if (n := settings.limit(lm, *pair)) is not None}
    prompts, most = [asked[i][0] for i in limits], [*limits.values()]
    options: Any = {"settings": settings, "editor": editor, "tokens_per_batch": tokens_per_batch}
    answers = generate(lm, prompts, most, **options, known=known)
    by_index = dict(zip(limits, answers, strict=True))
    return [by_index.get(i) for i in range(len(asked))]


def _run(
    lm: LanguageModel,
    asked: Sequence[tuple[Ids, int]],
    settings: Generation,
    editor: Answering | None,
    tokens_per_batch: int | None,
    known: Answers,
) -> list[list[int]]:
    """New tokens after each prompt, given with its limit."""
    budget = tokens_per_batch or (CPU_TOKENS if lm.device.type == "cpu" else GPU_TOKENS)
    budget = budget if takes_left_padding(lm) else 1  # each row is a batch of its own
    limits = sorted({limit for _, limit in asked})
    runs = [[q for q in asked if q[1] == limit] for limit in limits] if settings.searches else [asked]
    longest = [_longest(run) for run in runs]
    left = [[one for one in some.items() if one not in known] for some in longest]
    found = dict(known)
    with progress("generating", total=sum(map(len, left))) as advance:
        for run, limit_of, rest in zip(runs, longest, left, strict=True):
            rows = [Row(ids, ((0,) * (limit + 1),)) for ids, limit in rest]  # wide as prompt and new tokens
            for batch in batches(rows, budget):
                together = [(row.prompt, limit_of[row.prompt]) for row in batch]
                new = _run_batch(lm, together, settings, editor)
                found.update(zip(together, new, strict=True))
                advance(len(batch))
            found.update({(ids, limit): found[ids, limit_of[ids]][:limit] for ids, limit in run})
    return [found[q] for q in asked]


def _longest(run: Sequence[tuple[Ids, int]]) -> dict[Ids, int]:
    """The largest limit of each prompt, by first appearance."""
    found: dict[Ids, int] = {}
    for ids, limit in run:
        found[ids] = max(limit, found.get(ids, 0))
    return found


def takes_left_padding(lm: LanguageModel) -> bool:
    """Whether padding on the left leaves the other columns as they are."""
    # "eager" masks with the lowest number of the dtype, which from float64 is -inf in its float32 softmax: NaN spreads
    return not (lm.config._attn_implementation == "eager" and lm.model.dtype == torch.float64)


def given_ids(lm: LanguageModel, prompt: str, limit: int, editor: Answering | None = None) -> Ids:
    """Ids of what the model is given for a prompt, cut at its beginning so that ``limit`` more fit."""
    ids = tuple(lm.encode(prompt if editor is None else editor.asked(prompt)).ids) or (lm.pad_id,)
    return cut_beginning(ids, lm.max_length - limit, lm.tokenizer.bos_token_id)


def _generated(lm: LanguageModel, prompt: Ids, new: list[int]) -> Generated:
    finite = NOT_A_NUMBER not in new
    kept = new if finite else new[: new.index(NOT_A_NUMBER)]
    text, whole = (str(lm.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in (kept, [*prompt, *kept]))
    return Generated(text, finite, whole)


def _run_batch(
    lm: LanguageModel, asked: Sequence[tuple[Ids, int]], settings: Generation, editor: Answering | None
) -> list[list[int]]:
    """New tokens of each row, without the end-of-sequence token; :data:`NOT_A_NUMBER` where logits are NaN."""
    from transformers import DynamicCache

    prompts, limits = [ids for ids, _ in asked], [limit for _, limit in asked]
    width = max(len(ids) for ids in prompts)
    padding = [width - len(ids) for ids in prompts]
    ids = torch.tensor([[lm.pad_id] * n + list(row) for n, row in zip(padding, prompts, strict=True)])  # (B, T)
    mask = (torch.arange(width) >= torch.tensor(padding)[:, None]).long()  # (B, T)
    ids, mask = ids.to(lm.device), mask.to(lm.device)
    with editor.answering([width - 1] * len(prompts)) if editor is not None else nullcontext():
        if settings.searches:
            new = _search(lm, ids, mask, max(limits), settings)
        else:
            positions = (mask.cumsum(-1) - 1).clamp(min=0)  # (B, T)
            noise = _noise(prompts, max(limits), settings)
            new = step_by_step(lm, DynamicCache(config=lm.config), ids, mask, positions, limits, noise)
    return [before_end(row, lm.end_ids) for row in new.tolist()]


def _noise(prompts: Sequence[Ids], limit: int, settings: Generation) -> Tensor | None:
    """Gumbel noise, (B, limit, top_k): the argmax of logits with noise is a draw."""
    if settings.top_k == 1:
        return None
    rows = []
    for prompt in prompts:
        digest = hashlib.sha256(repr((settings.seed, prompt)).encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        uniform = torch.rand(limit, settings.top_k, generator=generator, dtype=torch.float64)
        rows.append(-torch.log(-torch.log(uniform.clamp(min=1e-300))))
    return torch.stack(rows)


def step_by_step(
    lm: LanguageModel,
    cache: Cache,
    ids: Tensor,
    mask: Tensor,
    positions: Tensor,
    limits: Sequence[int],
    noise: Tensor | None = None,
) -> Tensor:
    """The argmax of each step, or with noise a draw, until every row has ended or has its limit.

    Args:
        cache: Keys and values of the columns before ``ids``.
        ids: (B, t) tokens to begin with.
        mask: (B, T) of all columns so far, those of ``ids`` last.
        positions: (B, t) of ``ids``.
        limits: New tokens of each row at most; it may get more.
        noise: (B, steps, k) as of :func:`_noise`.

    Returns:
        New tokens (B, steps).
    """
    ends = torch.tensor([*lm.end_ids, NOT_A_NUMBER], device=ids.device)
    most = torch.tensor(limits, device=ids.device)
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    new: list[Tensor] = []
    for step in range(max(limits)):
        logits = lm.logits(lm.hidden(ids, mask, positions, cache)[:, -1])  # (B, V)
        assert cache.get_seq_length() == mask.shape[1], "the model did not keep its keys and values"
        best = logits.argmax(-1) if noise is None else _draw(logits, noise[:, step])
        best = best.masked_fill(logits.isnan().any(-1), NOT_A_NUMBER).to(mask.device)
        new.append(best)
        done |= torch.isin(best, ends) | (most <= step + 1)
        if bool(done.all()):
            break
        ids, positions = best.clamp(min=0)[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return torch.stack(new, dim=1)


def _draw(logits: Tensor, noise: Tensor) -> Tensor:
    """A token of each row, (B,), from logits (B, V) and noise (B, k)."""
    values, tokens = logits.topk(min(noise.shape[1], logits.shape[1]), dim=-1)
    values = in_float64(values)
    drawn = (values + noise[:, : values.shape[1]].to(values.device)).argmax(-1, keepdim=True)
    return tokens.gather(1, drawn.to(tokens.device))[:, 0]


def _search(lm: LanguageModel, ids: Tensor, mask: Tensor, limit: int, settings: Generation) -> Tensor:
    """Transformers' beam search, or greedy with a penalty: (B, at most limit); all `NOT_A_NUMBER` in a row with NaN."""
    from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

    broken = torch.zeros(len(ids), dtype=torch.bool)
    begins = mask.argmax(-1).repeat_interleave(settings.beams)[:, None]  # (B · beams, 1) each row's first token
    penalise = RepetitionPenaltyLogitsProcessor(settings.repetition_penalty)

    def process(seen: Tensor, scores: Tensor) -> Tensor:
        broken.logical_or_(scores.isnan().any(-1).reshape(len(ids), -1).any(-1).cpu())  # the beams of a row together
        columns = torch.arange(seen.shape[1], device=seen.device)
        without_padding = seen.gather(1, torch.maximum(columns, begins))
        penalised: Tensor = penalise(without_padding, scores)
        return penalised

    with lm.generation_settings(max_new_tokens=limit, num_beams=settings.beams):
        out = lm.model.generate(input_ids=ids, attention_mask=mask, logits_processor=LogitsProcessorList([process]))
    new: Tensor = out[:, ids.shape[1] :]
    return new.masked_fill(broken.to(new.device)[:, None], NOT_A_NUMBER)


def before_end(row: list[int], ends: set[int]) -> list[int]:
    """The tokens up to the first end; a :data:`NOT_A_NUMBER` stays, as the last one."""
    at = next((at for at, token in enumerate(row) if token in ends or token == NOT_A_NUMBER), len(row))
    return row[: at + 1] if row[at : at + 1] == [NOT_A_NUMBER] else row[:at]

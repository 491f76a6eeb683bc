"""Prompts as token rows, with the index of the subject's last token and of the predicted target tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.records import EditRequest
from editbench.words import place

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.model.tokenisation import Encoded


VERSION = 2
"""Changes with the tokens of the rows and the index of their subject."""

BARE = "{}"
"""The context template without context."""


@dataclass(frozen=True, slots=True)
class Row:
    """A tokenised sequence, BOS included where the tokenizer adds one."""

    ids: tuple[int, ...]
    subject: int  # index of the subject's last token
    targets: tuple[int, ...] = ()  # token ids; the j-th is predicted at index first + j
    first: int = 0  # index of the last prompt token


def last_token_of(encoded: Encoded, start: int, end: int) -> int:
    """Index of the last token that holds a character of ``text[start:end]``."""
    for i in range(len(encoded.ids) - 1, -1, -1):
        low, high = encoded.offsets[i]
        if low < end and high > start and high > low:
            return i
    raise ValueError(f"no token covers the characters {start} to {end}")


def subject_row(lm: LanguageModel, request: EditRequest, template: str = BARE) -> Row:
    """The request's prompt inside ``template``; the subject's last token is found by character offsets."""
    before, braces, after = template.partition(BARE)
    if not braces or BARE in after:
        raise ValueError(f'context template {template!r} must contain "{{}}" once')
    start, end = subject_span(request)
    encoded = lm.encode(before + request.prompt + after)
    return Row(tuple(encoded.ids), last_token_of(encoded, len(before) + start, len(before) + end))


def subject_span(request: EditRequest) -> tuple[int, int]:
    """Characters (start, end) of the subject in the prompt.

    The published code takes the first occurrence; here an occurrence as a whole word precedes, so that "Iran" is not
    found in "Iranian" (:func:`editbench.words.place`), and the place that the data gives by "{}" before any.
    """
    if request.subject is None:
        raise ValueError(f"record {request.id!r} has no subject")
    at = request.subject_at
    start = place(request.prompt, request.subject) if at is None else at
    return start, start + len(request.subject)


def target_ids(lm: LanguageModel, request: EditRequest, train_eos: bool) -> list[int]:
    """The target's tokens behind the prompt, the same that metrics score; with ``train_eos`` also the EOS token."""
    end = [int(lm.tokenizer.eos_token_id)] if train_eos else []
    return [*lm.continuation(request.target, lm.spaced(request.prompt)), *end]


def rewriting_rows(
    lm: LanguageModel, request: EditRequest, templates: Sequence[str], *, train_eos: bool = False
) -> list[Row]:
    """A row for each template: the token ids of ``template(prompt)`` followed by those of ``target[:-1]``."""
    targets = tuple(target_ids(lm, request, train_eos))
    rows = []
    for template in templates:
        row = subject_row(lm, request, template)
        rows.append(Row(row.ids + targets[:-1], row.subject, targets, len(row.ids) - 1))
    return rows


def kl_row(lm: LanguageModel, request: EditRequest) -> Row:
    """The row "{subject} is a", whose prediction at the subject should not change."""
    assert request.subject is not None
    encoded = lm.encode(f"{request.subject} is a")
    return Row(tuple(encoded.ids), last_token_of(encoded, 0, len(request.subject)))


def edit_rows(
    lm: LanguageModel, request: EditRequest, templates: Sequence[str], *, train_eos: bool = False
) -> list[Row]:
    """All rows of a value's optimisation: :func:`rewriting_rows`, then :func:`kl_row`."""
    return [*rewriting_rows(lm, request, templates, train_eos=train_eos), kl_row(lm, request)]


def cut_after_subject(row: Row) -> Row:
    """The row up to the subject: enough for keys, since attention is causal."""
    return Row(row.ids[: row.subject + 1], row.subject)

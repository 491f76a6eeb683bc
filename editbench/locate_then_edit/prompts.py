"""Prompts as token rows: the subject's last token, and the places where the target is predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.words import place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editbench.model.language_model import LanguageModel
    from editbench.model.tokenisation import Encoded
    from editbench.records import EditRequest


VERSION = 2
"""Changes with the tokens of the rows, and with where their subject ends."""

BARE = "{}"
"""The context template that adds nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """A tokenised sequence.

    Attributes:
        ids: Token ids, BOS included where the tokenizer adds one.
        subject: Index of the subject's last token.
        targets: Target token ids; the j-th is predicted at index ``first + j``. Empty for rows without a target.
        first: Index of the last prompt token, which predicts the first target token.
    """

    ids: tuple[int, ...]
    subject: int
    targets: tuple[int, ...] = ()
    first: int = 0


def last_token_of(encoded: Encoded, start: int, end: int) -> int:
    """Index of the last token that holds a character of ``text[start:end]``.

    Character offsets make this right for every tokenizer style: byte-level or SentencePiece, with BOS or without, for
    tokens that include a leading space, and for subjects that end inside a token.
    """
    for i in range(len(encoded.ids) - 1, -1, -1):
        low, high = encoded.offsets[i]
        if low < end and high > start and high > low:
            return i
    raise ValueError(f"no token covers the characters {start} to {end}")


def subject_row(lm: LanguageModel, request: EditRequest, template: str = BARE) -> Row:
    """The request's prompt inside ``template``, tokenised, with the subject's last token found by character offsets."""
    before, braces, after = template.partition(BARE)
    if not braces or BARE in after:
        raise ValueError(f'context template {template!r} must contain "{{}}" once')
    start, end = subject_span(request)
    encoded = lm.encode(before + request.prompt + after)
    return Row(tuple(encoded.ids), last_token_of(encoded, len(before) + start, len(before) + end))


def subject_span(request: EditRequest) -> tuple[int, int]:
    """Characters (start, end) of the subject in the prompt.

    The published code takes the subject's first occurrence; here an occurrence as a word of its own comes first, so
    that "Iran" is not found in "Iranian" (:func:`editbench.words.place`).
    """
    if request.subject is None:
        raise ValueError(f"record {request.id!r} has no subject")
    start = place(request.prompt, request.subject)
    return start, start + len(request.subject)


def target_ids(lm: LanguageModel, request: EditRequest, train_eos: bool) -> list[int]:
    """Tokens that a method trains behind the request's prompt: the target's, the same that every metric asks for.

    With ``train_eos`` the EOS token closes them, so that the model learns to stop there; editors check that there is
    one.
    """
    closing = [int(lm.tokenizer.eos_token_id)] if train_eos else []
    return [*lm.continuation(request.target), *closing]


def rewriting_rows(
    lm: LanguageModel, request: EditRequest, templates: Sequence[str], *, train_eos: bool = False
) -> list[Row]:
    """A row for each template: ``template(prompt) + target[:-1]`` (token ids put together, never decoded text)."""
    targets = tuple(target_ids(lm, request, train_eos))
    rows = []
    for template in templates:
        row = subject_row(lm, request, template)
        rows.append(Row(row.ids + targets[:-1], row.subject, targets, len(row.ids) - 1))
    return rows


def kl_row(lm: LanguageModel, request: EditRequest) -> Row:
    """The row "{subject} is a", whose prediction at the subject should stay what it was."""
    assert request.subject is not None
    encoded = lm.encode(f"{request.subject} is a")
    return Row(tuple(encoded.ids), last_token_of(encoded, 0, len(request.subject)))


def edit_rows(
    lm: LanguageModel, request: EditRequest, templates: Sequence[str], *, train_eos: bool = False
) -> list[Row]:
    """All rows that finding a value runs: those of :func:`rewriting_rows`, then :func:`kl_row`."""
    return [*rewriting_rows(lm, request, templates, train_eos=train_eos), kl_row(lm, request)]


def cut_after_subject(row: Row) -> Row:
    """The row without what follows the subject: enough for keys, since attention is causal."""
    return Row(row.ids[: row.subject + 1], row.subject)

"""Room that a method takes beside the model, foreseen from the model's shape and the stream: memory and disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from editbench.model.shape import Shape
    from editbench.records import EditRequest

KEYFRAME_EVERY = 256  # batches, as the ledger's
OF_AN_ENTRY = 600  # bytes of an edit's texts and numbers in a method's memory on disk
CHUNK_NUMBERS = 1 << 22  # of a low-rank change that are formed at once, as the ledger does


@dataclass(frozen=True)
class Workload:
    """A stream, as far as it decides memory: its size, and tokens an edit in its longest batch.

    Attributes:
        edits: Of the stream.
        batch: Edits that are handed to the method at once.
        prompt: Tokens of a prompt.
        tail: Those of them from the subject's last token on; all without a subject.
        answer: Tokens of a target.
        longest: Tokens of the batch's longest prompt with its answer: of a padded row.
        templates: Tokens of each given context template but the bare one; None where the method samples its own.
    """

    edits: int
    batch: int
    prompt: float
    tail: float
    answer: float
    longest: int
    templates: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        requests: Sequence[EditRequest],
        batch: int,
        count: Callable[[str], int],
        templates: Sequence[str] | None = None,
    ) -> Workload:
        """Of a stream's requests, in order; ``count`` gives the tokens of a text."""
        sizes = [_tokens(request, count) for request in requests]
        batches = [sizes[start : start + batch] for start in range(0, len(sizes), batch)]
        longest = max(batches, key=lambda some: sum(prompt + answer for prompt, _, answer in some), default=[(0, 0, 0)])
        prompt, tail, answer = (sum(column) / len(longest) for column in zip(*longest, strict=True))
        own = None if templates is None else tuple(count(t.replace("{}", "")) for t in templates if t != "{}")
        widest = max(before + behind - 1 for before, _, behind in longest)
        return cls(len(requests), min(batch, len(requests)), prompt, tail, answer, widest, own)

    def contexts(self, sampled: Sequence[int]) -> Sequence[int]:
        """Tokens of each context template but the bare one: given ones, or those that a method samples."""
        return sampled if self.templates is None else self.templates

    @property
    def batches(self) -> int:
        """Batches of the stream."""
        return -(-self.edits // max(1, self.batch))

    @property
    def row(self) -> float:
        """Tokens of a prompt with its answer, whose last token is not fed in."""
        return self.prompt + self.answer - 1


@dataclass(frozen=True)
class Room:
    """Bytes that a run takes beside the weights of its model and the program.

    Attributes:
        kept: Where the model is, from the first edit to the last evaluation.
        preparing: Where the model is, at most, before the first edit.
        editing: Where the model is, at most, while a batch is edited, beside ``kept``.
        host: In the host's memory, wherever the model is.
        disk: In the run's folder.
        cache: In the cache.
    """

    kept: int = 0
    preparing: int = 0
    editing: int = 0
    host: int = 0
    disk: int = 0
    cache: int = 0

    def __add__(self, other: Room) -> Room:
        """Both, one beside the other."""
        return Room(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def most(self, evaluating: int) -> int:
        """Bytes where the model is, at most, if the evaluation takes so many."""
        return max(self.preparing, evaluating, self.kept + max(self.editing, evaluating))


def of_changes(numbers: Sequence[int], shape: Shape, work: Workload, change: float, dense: bool = False) -> Room:
    """What the ledger takes for a method that changes weights, and what these take in float32 instead of the model's.

    The unedited weights are kept in host memory; those before a batch beside the model, from the second batch on; the
    changes of all batches on disk, with a keyframe now and then.

    Args:
        numbers: Of each changed weight.
        shape: Of the model.
        change: Bytes of a batch's change on disk.
        dense: Whether a change is as large as its weight; else it is a product that is formed in parts.
    """
    of_an_edited = shape.of_an_edited
    size, largest = sum(numbers) * of_an_edited, max(numbers, default=0)
    formed = 2 * largest * of_an_edited if dense else min(largest, CHUNK_NUMBERS) * (4 + 2 * of_an_edited)
    held = sum(numbers) * (of_an_edited - shape.of_a_number)
    written = work.batches * change
    keyframes = min(work.batches // KEYFRAME_EVERY, written // size if size else 0)
    again = size if work.batches > 1 else 0
    return Room(kept=held + again, editing=formed, host=size, disk=round(written + keyframes * size))


def grown(rows: int, first: int = 64) -> int:
    """Rows for which memory is taken by a matrix that doubles when it is full."""
    room = first if rows else 0
    while room < rows:
        room *= 2
    return room


def _tokens(request: EditRequest, count: Callable[[str], int]) -> tuple[int, int, int]:
    """Tokens of a request's prompt, of what follows from its subject's last token on, and of its answer."""
    prompt, subject = request.prompt, request.subject
    at = -1 if subject is None else prompt.rfind(subject)
    whole = count(prompt)
    tail = whole if at < 0 or subject is None else 1 + count(prompt[at + len(subject) :])
    return whole, min(whole, tail), max(1, count(f" {request.target}"))

"""What flows through the house: edit requests, the probes that test them, and sets of records.

Everything here is frozen plain data without torch. Prompts, subjects and targets are brought into Unicode's composed
form (NFC), so that a subject is found in a prompt that is written the same. An editor only ever sees
:class:`EditRequest`; the probes stay with the evaluation, so an editor cannot look at what it will be tested on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from editbench.words import nfc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

REWRITE = "rewrite"
"""The edit's own prompt. Never stored as a probe: it is made from the request."""
PARAPHRASE = "paraphrase"
"""The same question in other words; the new target is right."""
LOCALITY = "locality"
"""Neighbouring or unrelated prompts (CounterFact's neighbourhood, ZsRE's NQ question); nothing should change."""
SUBJECT_FACT = "subject_fact"
"""Another fact about the edited subject: the hardest locality probe, kept apart from the others."""
UNRELATED = "unrelated"
"""A question that belongs to no record (SCEN's forget set, GRACE's upstream questions); nothing should change."""
PROBE_KINDS = (REWRITE, PARAPHRASE, LOCALITY, SUBJECT_FACT, UNRELATED)


class RecordError(ValueError):
    """A record that cannot be used; the message names file, line, id and field."""


NOT_FINITE = "NaN"
OUT_OF_MEMORY = "out of memory"
"""Kinds of failed edits that are told apart in the results."""


class EditError(RuntimeError):
    """An edit that could not be made; the model is as it was before.

    Attributes:
        ids: The requests concerned.
        reason: What went wrong.
        kind: :data:`NOT_FINITE`, :data:`OUT_OF_MEMORY`, or empty for all else.
    """

    def __init__(self, ids: Sequence[str], reason: str, kind: str = "") -> None:
        self.ids = tuple(ids)
        self.reason = reason
        self.kind = kind
        super().__init__(f"edit of {', '.join(self.ids)} failed: {reason}")


@dataclass(frozen=True, slots=True)
class EditRequest:
    """One fact to write into a model.

    Attributes:
        id: Unique within its dataset.
        prompt: The full prompt, subject included, without trailing space ("The mother tongue of Danielle Darrieux is").
        subject: The subject as it stands in the prompt, or None where the data has none.
        target: The new answer, without the space that separates it from the prompt.
        target_true: The answer the unedited model is expected to give, if the data has it.
    """

    id: str
    prompt: str
    subject: str | None
    target: str
    target_true: str | None = None

    def __post_init__(self) -> None:
        for name in ("id", "prompt", "target"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise RecordError(f"record {self.id!r}: {name} is {value!r}; it must be a non-empty string")
        _compose(self, "prompt", "subject", "target", "target_true")
        if self.subject is not None and (not self.subject or self.subject not in self.prompt):
            raise RecordError(
                f"record {self.id!r}: subject {self.subject!r} is not in the prompt {self.prompt!r}; "
                "correct the record, or give no subject"
            )


@dataclass(frozen=True, slots=True)
class Probe:
    """One question put to the edited model.

    Attributes:
        kind: One of :data:`PROBE_KINDS`.
        prompt: The text to complete.
        target: The right answer after the edit, if the data has one.
    """

    kind: str
    prompt: str
    target: str | None = None

    def __post_init__(self) -> None:
        _compose(self, "prompt", "target")


@dataclass(frozen=True, slots=True)
class Route:
    """What a method that keeps its edits beside the weights sees in a prompt.

    Attributes:
        id: The edit that answers; None where the model answers by itself.
        activation: How strongly the prompt is taken for that of an edit, of the strongest; the method's own measure.
    """

    id: str | None
    activation: float


class Routing(Protocol):
    """Which edits answer the prompts of one batch, of a method that keeps its edits beside the weights."""

    @property
    def answered_by(self) -> Sequence[str | None]:
        """For each prompt the id of the edit that answers, or None; known after the batch's first forward pass."""


@dataclass(frozen=True, slots=True)
class GenerationPrompts:
    """Prompts for free text about the edited subject, and texts about the new answer that it should resemble."""

    prompts: tuple[str, ...]
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class PromptFormat:
    """Text around every prompt: "[INST] " before and " [/INST]" behind it, or nothing."""

    prefix: str = ""
    suffix: str = ""

    def apply(self, prompt: str) -> str:
        """The plain prompt in this format."""
        return f"{self.prefix}{prompt}{self.suffix}"

    def transform(self, prompt: str, function: Callable[[str], str]) -> str:
        """A prompt in this format, with ``function`` applied to the plain prompt inside it."""
        if not (prompt.startswith(self.prefix) and prompt.endswith(self.suffix)):
            return function(prompt)
        return self.apply(function(prompt[len(self.prefix) : len(prompt) - len(self.suffix)]))


@dataclass(frozen=True, slots=True)
class EditRecord:
    """An edit request with the probes that test it, and what free text is asked for, if any.

    Attributes:
        request: The edit.
        probes: Questions that test it.
        free text: Prompts for free text.
        left_out: For each question of the data that is not asked, its kind and why: "paraphrase: is the edited prompt".
    """

    request: EditRequest
    probes: tuple[Probe, ...] = ()
    free_text: GenerationPrompts | None = None
    left_out: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The request's id."""
        return self.request.id


@dataclass(frozen=True, slots=True)
class Passage:
    """A text whose likelihood is measured, given the text before it (perplexity). ``prompt`` may be empty."""

    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class SkippedRecord:
    """A record of the file that was left out, and why: it says no edit, or cannot be used under ``on_error=skip``."""

    where: str
    reason: str


@dataclass(frozen=True)
class RecordSet:
    """A loaded dataset.

    Attributes:
        name: Dataset name as registered ("counterfact").
        records: In file order, ids unique.
        texts: Named text collections for perplexity: "plain" (ordinary text), "accurate" (sentences that should
            stay likely, given their passage).
        unrelated: Questions of no record, each with its right answer, asked of the model as a whole.
        skipped: Records left out, in file order; see :class:`SkippedRecord`.
        fingerprint: Hex digest of the content, recorded with each run.
        prompt_format: What stands around all these prompts already, with "{}" where a plain one goes.
    """

    name: str
    records: tuple[EditRecord, ...]
    texts: Mapping[str, tuple[Passage, ...]] = field(default_factory=lambda: MappingProxyType({}))
    skipped: tuple[SkippedRecord, ...] = ()
    fingerprint: str = ""
    unrelated: tuple[Probe, ...] = ()
    prompt_format: str = "{}"

    def __len__(self) -> int:
        return len(self.records)


def _compose(texts: EditRequest | Probe, *names: str) -> None:
    """Bring fields of a frozen record into NFC."""
    for name in names:
        text = getattr(texts, name)
        if text is not None:
            object.__setattr__(texts, name, nfc(text))

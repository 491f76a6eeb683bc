"""Edit requests, the probes that test them, and sets of records: frozen plain data, without torch.

Prompts, subjects and targets are in Unicode's composed form (NFC), so that a subject is found in its prompt. An editor
sees requests only, never the probes that test it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from editbench.words import nfc

REWRITE = "rewrite"  # the edit's own prompt. Never stored as a probe: it is made from the request.
PARAPHRASE = "paraphrase"  # the same question in other words; the new target is right
LOCALITY = "locality"
"""Neighbouring or unrelated prompts (CounterFact's neighbourhood, ZsRE's NQ question): the answer should not change."""
SUBJECT_FACT = "subject_fact"
"""Another fact about the edited subject: the hardest locality probe, kept apart from the others."""
UNRELATED = "unrelated"
"""A question of no record (SCEN's forget set, GRACE's upstream questions): the answer should not change."""
EARLIER_EDIT, ORIGINAL = "earlier_edit", "original"
"""The prompt of an edit that revises an earlier one, with the earlier edit's answer or the one before all
edits. Neither should return."""
RETURNS = (EARLIER_EDIT, ORIGINAL)
PROBE_KINDS = (REWRITE, PARAPHRASE, LOCALITY, SUBJECT_FACT, UNRELATED, *RETURNS)


class RecordError(ValueError):
    """A record that cannot be used; the message names file, line, id and field."""


NOT_FINITE, OUT_OF_MEMORY = "NaN", "out of memory"  # kinds of failed edits that the results count apart


class EditError(RuntimeError):
    """An edit that could not be made; the model is as before. ``kind`` is empty for reasons not counted apart."""

    def __init__(self, ids: Sequence[str], reason: str, kind: str = "") -> None:
        self.ids, self.reason, self.kind = tuple(ids), reason, kind
        super().__init__(f"edit of {', '.join(self.ids)} failed: {reason}")


@dataclass(frozen=True, slots=True)
class EditRequest:
    """A fact to write into a model."""

    id: str  # unique within its dataset
    prompt: str  # with the subject, without trailing space ("The mother tongue of Danielle Darrieux is")
    subject: str | None  # as written in the prompt; None if the data has none
    target: str  # new answer, without the space that separates it from the prompt
    target_true: str | None = None  # old answer; None if the data has none

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
    """A question that tests an edit: its kind, the text to complete, and the right answer, if the data has one."""

    kind: str
    prompt: str
    target: str | None = None

    def __post_init__(self) -> None:
        _compose(self, "prompt", "target")


@dataclass(frozen=True, slots=True)
class Route:
    """The edit to which a method with edits beside the weights routes a prompt."""

    id: str | None  # of the edit that answers; None if the unedited model does
    activation: float  # strength of the best match between prompt and edits, in the method's own measure
    shared: tuple[str, ...] = ()  # further edits for which the same part of the memory answers


class Routing(Protocol):
    """The edits that answer the prompts of a batch, for methods with edits beside the weights."""

    @property
    def answered_by(self) -> Sequence[str | None]:
        """Id of the edit that answers each prompt, or None; known after the batch's first forward pass."""


@dataclass(frozen=True, slots=True)
class GenerationPrompts:
    """Prompts for free text about the edited subject, and texts about the new answer to compare it with."""

    prompts: tuple[str, ...]
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class PromptFormat:
    """Text around every prompt: "[INST] " before and " [/INST]" after it, or nothing."""

    prefix: str = ""
    suffix: str = ""

    @classmethod
    def parse(cls, text: str) -> PromptFormat:
        """The format of a setting like "[INST]{}[/INST]", with "{}" in place of the prompt."""
        if text.count("{}") != 1:
            raise ValueError(f"prompt_format={text!r} must have one {{}} where the prompt goes")
        return cls(*text.split("{}"))

    def apply(self, prompt: str) -> str:
        """The plain prompt in this format."""
        return f"{self.prefix}{prompt}{self.suffix}"

    def plain(self, prompt: str) -> str:
        """The inverse of :meth:`apply`; a text that is not in this format stays as it is."""
        inside = prompt.removeprefix(self.prefix).removesuffix(self.suffix)
        return inside if self.apply(inside) == prompt else prompt

    def transform(self, prompt: str, function: Callable[[str], str]) -> str:
        """A prompt in this format, with ``function`` applied to the plain prompt inside it."""
        plain = self.plain(prompt)
        return self.apply(function(plain)) if self.apply(plain) == prompt else function(plain)


@dataclass(frozen=True, slots=True)
class EditRecord:
    """An edit request with the probes that test it."""

    request: EditRequest
    probes: tuple[Probe, ...] = ()
    free_text: GenerationPrompts | None = None
    left_out: tuple[str, ...] = ()  # questions that are not asked, with the reason ("paraphrase: is the edited prompt")
    relation: str | None = None  # of the fact, where the data names it ("P103")
    revises: str | None = None  # id of the earlier edit of a stream that this one corrects

    @property
    def id(self) -> str:
        """Id of the request."""
        return self.request.id


@dataclass(frozen=True, slots=True)
class Passage:
    """A text whose perplexity is measured, given the text before it. ``prompt`` may be empty."""

    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class SkippedRecord:
    """A record that was left out: with nothing to edit, or not usable under ``on_error=skip``."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Split:
    """The part of a dataset that was loaded: "stream", "tune", "train", or "all" of it."""

    name: str = "all"
    rule: str = ""  # in words; empty for the whole dataset
    shared: int = 0  # records in no part, since a record of another part has their subject


@dataclass(frozen=True)
class RecordSet:
    """A loaded dataset."""

    name: str  # as registered ("counterfact")
    records: tuple[EditRecord, ...]  # in file order, ids unique
    texts: Mapping[str, tuple[Passage, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """For perplexity: "plain" (ordinary text), "accurate" (sentences that should stay likely given their passage)."""
    skipped: tuple[SkippedRecord, ...] = ()  # in file order
    fingerprint: str = ""  # hex digest of the content
    unrelated: tuple[Probe, ...] = ()  # questions of no record, each with its right answer
    prompt_format: PromptFormat = PromptFormat()  # of all prompts of the set
    sentences: bool = False  # whether targets are sentences
    split: Split = Split()

    def __len__(self) -> int:
        return len(self.records)


def _compose(texts: EditRequest | Probe, *names: str) -> None:
    for name in names:
        text = getattr(texts, name)
        if text is not None:
            object.__setattr__(texts, name, nfc(text))

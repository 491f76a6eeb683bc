"""Edit requests, the probes that test them, and sets of records: frozen plain data, without torch.

Prompts, subjects and targets are in Unicode's composed form (NFC), so that a subject is found in its prompt. An editor
sees requests only, never the probes that test it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from editbench.words import difference, nfc, place, place_alike, shows_nothing

REWRITE = "rewrite"  # the edit's own prompt. Never stored as a probe: it is made from the request.
PARAPHRASE = "paraphrase"  # the same question in other words; the new target is right
LOCALITY = "locality"
"""Neighbouring or unrelated prompts (CounterFact's neighbourhood, ZsRE's NQ question): the answer should not change."""
SUBJECT_FACT = "subject_fact"
"""Another fact about the edited subject: the hardest locality probe, kept apart from the others."""
ALIAS, REASONING, MULTI_HOP, PORTABILITY = "alias", "reasoning", "multi_hop", "portability"
"""What follows from the edit: its question by another name of the subject, a conclusion in one step or in several, and
any other consequence (a reversed relation, yes or no). The probe's own target is right."""
FOLLOWS = (ALIAS, REASONING, MULTI_HOP, PORTABILITY)
CHAIN = "chain"
"""A question whose answer leads back to the old fact (KnowGIC): after the edit it should no longer come."""
UNRELATED = "unrelated"
"""A question of no record (SCEN's forget set, GRACE's upstream questions): the answer should not change."""
EARLIER_EDIT, ORIGINAL = "earlier_edit", "original"
"""The prompt of an edit that revises an earlier one, with the earlier edit's answer or the one before all
edits. Neither should return."""
RETURNS = (EARLIER_EDIT, ORIGINAL)
PROBE_KINDS = (REWRITE, PARAPHRASE, LOCALITY, SUBJECT_FACT, *FOLLOWS, CHAIN, UNRELATED, *RETURNS)


BRACES = "{}"
"""The place of the subject in a prompt."""


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
    """A fact to write into a model.

    A prompt may have "{}" where the subject goes. The subject takes the prompt's spelling where the two only look
    alike (:func:`editbench.words.place_alike`). Spaces around subject and target and behind the prompt are removed; a
    line break behind the prompt stays.
    """

    id: str  # unique within its dataset
    prompt: str  # with the subject, without trailing space ("The mother tongue of Danielle Darrieux is")
    subject: str | None  # as written in the prompt; None if the data has none
    target: str  # new answer, without the space that separates it from the prompt
    target_true: str | None = None  # old answer; None if the data has none
    subject_at: int | None = None
    """Index of the subject in the prompt, where it is not its first occurrence as whole words, or "{}" is there."""

    def __post_init__(self) -> None:
        for name in ("id", "prompt", "target"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise RecordError(f"record {self.id!r}: {name} is {value!r}; it must be a non-empty string")
            if shows_nothing(value):
                raise RecordError(f"record {self.id!r}: {name} is {value!r}, which shows nothing; it must have a text")
        _compose(self, "prompt", "subject", "target", "target_true")
        _set(self, prompt=self.prompt.rstrip(" \t"), target=self.target.strip())
        _set(self, target_true=self.target_true and self.target_true.strip())
        if self.subject is None:
            check_filled(self.id, self.prompt)
            return
        prompt, subject, at = _place_subject(self.id, self.prompt, self.subject.strip(), self.subject_at)
        _set(self, prompt=prompt, subject=subject, subject_at=_place_to_keep(prompt, subject, at))


@dataclass(frozen=True, slots=True)
class Probe:
    """A question that tests an edit: its kind, the text to complete, and the right answer, if the data has one."""

    kind: str
    prompt: str
    target: str | None = None
    also: tuple[str, ...] = ()  # other spellings of the target, as right as it

    def __post_init__(self) -> None:
        _compose(self, "prompt", "target")
        _set(self, also=tuple(nfc(text) for text in self.also))


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


def _set(texts: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(texts, name, value)


@dataclass(frozen=True)
class PromptFormat:
    """Text around every prompt: "[INST] " before and " [/INST]" after it, or nothing; no space at its end."""

    prefix: str = ""
    suffix: str = ""

    def __post_init__(self) -> None:
        _set(self, prefix=nfc(self.prefix), suffix=nfc(self.suffix).rstrip(" \t"))  # as prompts are

    @classmethod
    def parse(cls, text: str | PromptFormat) -> PromptFormat:
        """The format of a setting like "[INST]{}[/INST]", with "{}" in place of the prompt; a format stays as it is.

        A line break may be written as a backslash with n, as on a command line.
        """
        if isinstance(text, cls):
            return text
        text = str(text)
        if text.count("{}") != 1:
            raise ValueError(f"prompt_format={text!r} must have one {{}} where the prompt goes")
        before, after = text.replace("\\n", "\n").replace("\\t", "\t").split("{}")
        return cls(before, after)

    def inside(self, outer: PromptFormat) -> PromptFormat:
        """This format inside another one."""
        return PromptFormat(outer.prefix + self.prefix, self.suffix + outer.suffix)

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
    also: tuple[str, ...] = ()  # other spellings of the request's target, as right as it; they are not edited

    @property
    def id(self) -> str:
        """Id of the request."""
        return self.request.id


Editable = EditRequest | EditRecord | Mapping[str, Any]
"""A request, its record, or a dictionary with ``prompt``, ``subject`` and ``target`` (or ``target_new``)."""


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
    chat_format: PromptFormat | None = None  # the part of it that is the chat template's
    sentences: bool = False  # whether targets are sentences
    split: Split = Split()
    ignored: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Records by each field that nothing read, with a hint ("rephrase (did you mean paraphrases?)")."""

    def __repr__(self) -> str:
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"<RecordSet {self.name}: {len(self)} records{skipped}, split {self.split.name}>"

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[EditRecord]:
        return iter(self.records)

    def __getitem__(self, place: int) -> EditRecord:
        return self.records[place]


Asked = TypeVar("Asked", EditRequest, Probe, Passage)


def formatted(asked: Asked, prompt_format: PromptFormat) -> Asked:
    """The same with its prompt in the format; a passage without a prompt stays as it is.

    The format is taken as it stands: a "{}" in it is no subject's place.
    """
    found = copy(asked)
    if asked.prompt:
        _set(found, prompt=prompt_format.apply(asked.prompt))
    if asked.prompt and isinstance(asked, EditRequest) and asked.subject is not None:
        at = place(asked.prompt, asked.subject) if asked.subject_at is None else asked.subject_at
        at += len(prompt_format.prefix)
        _set(found, subject_at=_place_to_keep(found.prompt, asked.subject, at))
    return found


def check_filled(id: str, prompt: str) -> None:
    """Refuse a prompt with a "{}" that nothing has filled."""
    if BRACES in prompt:
        raise RecordError(
            f"record {id!r}: {BRACES} in {prompt!r} is filled by nothing; give the record a subject, or write it out"
        )


def _place_to_keep(prompt: str, subject: str, at: int) -> int | None:
    return None if at == place(prompt, subject) and BRACES not in prompt else at


def _place_subject(id: str, prompt: str, subject: str, at: int | None) -> tuple[str, str, int]:
    """The prompt with its subject, the subject as the prompt has it, and its index."""
    if at is not None:
        if not prompt.startswith(subject, at):
            raise RecordError(f"record {id!r}: subject {subject!r} does not stand at {at} in {prompt!r}; correct it")
        return prompt, subject, at
    if prompt.count(BRACES) > 1:
        raise RecordError(f"record {id!r}: {prompt!r} has several {BRACES}; one says where the subject goes")
    if BRACES in prompt:
        return prompt.replace(BRACES, subject), subject, prompt.index(BRACES)
    if subject and subject in prompt:
        return prompt, subject, place(prompt, subject)
    if (found := place_alike(prompt, subject)) is not None:
        return prompt, prompt[slice(*found)], found[0]
    why = difference(prompt, subject)
    raise RecordError(
        f"record {id!r}: subject {subject!r} is not in the prompt {prompt!r}{f' ({why})' if why else ''}; "
        "correct the record, write {} where the subject goes, or give no subject"
    )


def _compose(texts: EditRequest | Probe, *names: str) -> None:
    for name in names:
        text = getattr(texts, name)
        if text is not None:
            _set(texts, **{name: nfc(text)})

"""Schemas: which fields a raw record must have, and how it becomes an edit record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from editbench.datasets.files import Row, RowError
from editbench.records import (
    LOCALITY,
    PARAPHRASE,
    SUBJECT_FACT,
    EditRecord,
    EditRequest,
    GenerationPrompts,
    Passage,
    Probe,
    RecordError,
    SkippedRecord,
)
from editbench.words import folded, nfc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


Item = EditRecord | Passage | Probe | SkippedRecord
"""What a raw record yields. Passages go to the dataset's accurate sentences, probes are questions of no record."""


@dataclass(frozen=True)
class Settings:
    """Settings that every dataset takes.

    Attributes:
        plain_path: Ordinary text for perplexity: rows with a field ``text``, or a ``.txt`` file, one text a line.
        unrelated_path: Questions of no record, with their answers: rows with ``prompt`` and ``target``, ``question``
            and ``answer``, ``src`` and ``answers`` (the first is right), or ``text`` and ``labels``; or "pocket".
        pocket_seed: Seed of the embedded world, where the path is "pocket".
        prompt_format: Put around every prompt, with "{}" where the prompt goes: "[INST]{}[/INST]". Those of edits and
            all probes, unrelated questions, free text, and texts that follow a prompt; methods pose their own likewise.
        paraphrases: Only the first so many paraphrases of each record; None for all.
    """

    plain_path: str | None = None
    unrelated_path: str | None = None
    pocket_seed: int = 0
    prompt_format: str = "{}"
    paraphrases: int | None = None

    def __post_init__(self) -> None:
        if self.prompt_format.count("{}") != 1:
            raise ValueError(f"prompt_format={self.prompt_format!r} must have one {{}} where the prompt goes")
        if self.paraphrases is not None and self.paraphrases < 0:
            raise ValueError(f"paraphrases={self.paraphrases} must be at least 0, or null for all")


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Schema(Generic[S]):
    """One layout of a dataset's records.

    Attributes:
        title: Whose layout it is, for errors ("CounterFact, EasyEdit").
        fields: Fields that a record must have; they tell the layouts of a dataset apart.
        parse: Makes what one record yields; raises :class:`RecordError`.
    """

    title: str
    fields: tuple[str, ...]
    parse: Callable[[Row, S], Iterable[Item]]


@dataclass(frozen=True)
class Dataset(Generic[S]):
    """A dataset: its settings and the layouts it is found in.

    Attributes:
        name: As registered ("counterfact").
        settings: Settings class.
        schemas: Layouts, told apart by their fields.
        has_pocket_version: Whether the embedded world has it.
    """

    name: str
    settings: type[S]
    schemas: tuple[Schema[S], ...]
    has_pocket_version: bool = True


@dataclass
class ParsedRows:
    """What the rows of one file yielded, in file order."""

    records: list[EditRecord] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    skipped: list[SkippedRecord] = field(default_factory=list)

    def add(self, items: Iterable[Item]) -> None:
        """Put each item where it belongs."""
        for item in items:
            if isinstance(item, EditRecord):
                self.records.append(item)
            elif isinstance(item, Passage):
                self.passages.append(item)
            elif isinstance(item, Probe):
                self.probes.append(item)
            else:
                self.skipped.append(item)


def parse_rows(
    rows: Iterable[Row | RowError], schemas: Sequence[Schema[S]], settings: S, on_error: str, limit: int | None = None
) -> ParsedRows:
    """Parse rows until they end, or until there are ``limit`` edit records.

    Records that are none (:class:`SkippedRecord`) are listed whatever ``on_error`` is.

    Raises:
        RowError: Under ``on_error="raise"``, at the first record that cannot be used.
        RecordError: If the file as a whole cannot be read.
    """
    gathered = ParsedRows()
    seen: dict[str, str] = {}  # id -> where
    for row in rows:
        try:
            gathered.add(_parse(row, schemas, settings, seen))
        except RowError as error:
            if on_error == "raise":
                hint = "correct the record, or leave it out with on_error=skip"
                raise RowError(error.where, f"{error.reason}; {hint}") from None
            gathered.skipped.append(SkippedRecord(error.where, error.reason))
        if limit is not None and len(gathered.records) >= limit:
            del gathered.records[limit:]
            break
    return gathered


def _parse(row: Row | RowError, schemas: Sequence[Schema[S]], settings: S, seen: dict[str, str]) -> list[Item]:
    if isinstance(row, RowError):
        raise row
    items = list(_schema_of(row, schemas).parse(row, settings))
    for item in items:
        if isinstance(item, EditRecord):
            if item.id in seen:
                reason = f"record {item.id!r}, field 'id': already used at {seen[item.id]}"
                raise RowError(row.where, reason)
            seen[item.id] = row.where
    return items


def _schema_of(row: Row, schemas: Sequence[Schema[S]]) -> Schema[S]:
    """The schema that has the greatest share of its fields in the row; the first of equals."""

    def missing(schema: Schema[S]) -> list[str]:
        return [name for name in schema.fields if not row.has(name)]

    best = min(schemas, key=lambda schema: len(missing(schema)) / len(schema.fields))
    lacking = missing(best)
    if not lacking:
        return best
    known = "; ".join(f"{schema.title}: {', '.join(schema.fields)}" for schema in schemas)
    reason = f"is missing; the record has {', '.join(row.fields) or 'no fields'}. Layouts that can be read: {known}"
    raise row.error(lacking[0], reason)


def edit_record(
    row: Row,
    *,
    prompt: str,
    target: str,
    subject: str | None = None,
    target_true: str | None = None,
    paraphrases: Iterable[str] = (),
    locality: Iterable[tuple[str, str | None]] = (),
    subject_facts: Iterable[tuple[str, str | None]] = (),
    also_true: Iterable[str] = (),
    id: str | None = None,
) -> EditRecord | SkippedRecord:
    """An edit record from the parts of a row; or, where its new answer is a true one already, that it is skipped.

    A row's ``subject_fact_prompts`` become probes of their own kind, its ``generation_prompts`` (with ``snippets``,
    what it should resemble) ask for free text.

    Prompts lose the space at their end; targets and subject lose it at both ends. A "{}" in a prompt that does not have
    the subject in it is where the subject goes. What :func:`~editbench.datasets.base.sift` leaves out is noted.

    Args:
        row: The row that it comes from.
        prompt: Full prompt, subject filled in.
        target: The new answer.
        subject: The subject, if the data has one.
        target_true: The old answer, if the data has one.
        paraphrases: Prompts to which the new answer is right, too.
        locality: Prompts that the edit should leave alone, with their answers.
        subject_facts: Prompts about other facts of the subject, with their answers.
        also_true: Other spellings of the old answer, and other old answers.
        id: Where a row has several records; otherwise the row's id.

    Raises:
        RowError: If the subject is not in the prompt, or one of these fields is malformed.
    """
    target = target.strip()
    facts = [*subject_facts, *pairs(row.children("subject_fact_prompts"))]
    probes = (
        *(Probe(PARAPHRASE, text.rstrip(), target) for text in paraphrases),
        *(Probe(LOCALITY, text.rstrip(), answer and answer.strip()) for text, answer in locality),
        *(Probe(SUBJECT_FACT, text.rstrip(), answer and answer.strip()) for text, answer in facts),
    )
    subject = subject and subject.strip()
    if subject and nfc(subject) not in nfc(prompt):
        prompt = prompt.replace("{}", subject, 1)
    try:
        request = EditRequest(
            id=id or row.id,
            prompt=prompt.rstrip(),
            subject=subject,
            target=target,
            target_true=target_true and target_true.strip(),
        )
    except RecordError as error:
        raise RowError(row.where, str(error)) from None
    if states_a_truth(target, (target_true, *also_true)):
        reason = f"record {request.id!r}: the new answer {target!r} is a true one already, there is nothing to edit"
        return SkippedRecord(row.where, reason)
    asked, left_out = sift(request, probes)
    return EditRecord(request, asked, _free_text(row), left_out)


def _free_text(row: Row) -> GenerationPrompts | None:
    prompts = row.texts("generation_prompts") if row.has("generation_prompts") else []
    if not prompts:
        return None
    return GenerationPrompts(tuple(prompts), tuple(row.texts("snippets")) if row.has("snippets") else ())


def pairs(rows: Iterable[Row]) -> list[tuple[str, str | None]]:
    """Objects ``{prompt, target?}`` as pairs.

    Raises:
        RowError: If an object has no prompt, or either field is no text.
    """
    return [(row.text("prompt"), row.text("target") if row.has("target") else None) for row in rows]


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        ValueError: If it is not.
    """
    if value not in choices:
        raise ValueError(f"{name}={value!r} is none of {', '.join(choices)}")


def states_a_truth(target: str, true_answers: Iterable[str | None]) -> bool:
    """Whether the new answer is a true one already, spelt alike: such an edit changes nothing and always succeeds."""
    return folded(target) in {folded(answer) for answer in true_answers if answer is not None}


def sift(request: EditRequest, probes: Iterable[Probe]) -> tuple[tuple[Probe, ...], tuple[str, ...]]:
    """The probes to ask, and why the others are not ("paraphrase: is the edited prompt").

    A paraphrase that is the edited prompt (but for white space) tests no generality; one in other letters does. A
    question whose answer should stay is not asked if it is the edited prompt, whatever its case. One of two equal
    questions is enough.
    """
    kept: dict[tuple[str, str, str | None], Probe] = {}
    left_out = []
    for probe in probes:
        written_alike = _written(probe.prompt) == _written(request.prompt)
        key = probe.kind, _written(probe.prompt), probe.target
        if written_alike or (probe.kind != PARAPHRASE and folded(probe.prompt) == folded(request.prompt)):
            left_out.append(f"{probe.kind}: is the edited prompt")
        elif key in kept:
            left_out.append(f"{probe.kind}: is asked already")
        else:
            kept[key] = probe
    return tuple(kept.values()), tuple(left_out)


def _written(text: str) -> str:
    return nfc(" ".join(text.split()))

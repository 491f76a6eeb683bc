"""Datasets and their layouts: rows of raw fields, parsed to edit records with the probes to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from editbench.checks import at_least
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
    PromptFormat,
    RecordError,
    SkippedRecord,
)
from editbench.words import folded, nfc

Item = EditRecord | Passage | Probe | SkippedRecord
"""Result of parsing a row. Passages are the dataset's accurate sentences, probes are questions of no record."""


@dataclass(frozen=True)
class Settings:
    """Settings of every dataset.

    Unrelated questions are rows with ``prompt`` and ``target``, ``question`` and ``answer``, ``src`` and ``answers``
    (the first is right), or ``text`` and ``labels``. The format applies to all prompts: of edits, probes, unrelated
    questions and free text, to the text before an accurate sentence, and to the methods' own prompts.
    """

    plain_path: str | None = (
        None  # ordinary text for perplexity: rows with ``text``, or a ``.txt`` with one text a line
    )
    unrelated_path: str | None = None  # questions of no record, with their answers; or "pocket"
    pocket_seed: int = 0  # of the embedded world, where a path is "pocket"
    prompt_format: str = "{}"  # text around every prompt, with "{}" where the prompt goes ("[INST]{}[/INST]")
    paraphrases: int | None = None  # number of paraphrases to ask of each record; None: all

    def __post_init__(self) -> None:
        PromptFormat.parse(self.prompt_format)
        at_least(0, paraphrases=self.paraphrases)


S = TypeVar("S", bound=Settings)
K = TypeVar("K", EditRecord, Passage, Probe, SkippedRecord)


@dataclass(frozen=True)
class Layout(Generic[S]):
    """A layout of records."""

    title: str
    fields: tuple[str, ...]  # that a record must have; they tell the layouts of a dataset apart
    parse: Callable[[Row, S], Iterable[Item]]  # from a row to its items; raises RowError


@dataclass(frozen=True)
class Dataset(Generic[S]):
    """A dataset, as other packages may register one too."""

    name: str
    settings: type[S]
    layouts: tuple[Layout[S], ...]
    sentences: bool = False  # whether targets are sentences, so that their perplexity is measured too
    reserved: int = 0  # last records of the published file that no stream edits (editbench.datasets.splits)


def parse_rows(
    rows: Iterable[Row | RowError], layouts: Sequence[Layout[S]], settings: S
) -> Iterator[list[Item] | RowError]:
    """The items of each row in file order, or the reason why a row cannot be used."""
    seen: dict[str, str] = {}  # id -> place
    for row in rows:
        try:
            items: list[Item] | RowError = _parse(row, layouts, settings, seen)
        except RowError as error:
            items = error
        yield items


def take(rows: Iterable[list[Item] | RowError], on_error: str, limit: int | None = None) -> list[Item]:
    """The items of rows, until the rows end or ``limit`` edit records are there; a row may hold more.

    A row that cannot be used raises its :class:`RowError`, or is listed as skipped under ``on_error="skip"``.
    """
    taken: list[Item] = []
    count = 0
    for row in rows:
        if isinstance(row, RowError):
            if on_error == "raise":
                hint = "correct the record, or leave it out with on_error=skip"
                raise RowError(row.where, f"{row.reason}; {hint}")
            row = [SkippedRecord(row.where, row.reason)]
        taken += row
        count += len(of_kind(EditRecord, row))
        if limit is not None and count >= limit:
            break
    return taken


def _parse(row: Row | RowError, layouts: Sequence[Layout[S]], settings: S, seen: dict[str, str]) -> list[Item]:
    if isinstance(row, RowError):
        raise row
    items = list(_layout_of(row, layouts).parse(row, settings))
    for record in of_kind(EditRecord, items):
        if record.id in seen:
            raise RowError(row.where, f"record {record.id!r}, field 'id': already used at {seen[record.id]}")
        seen[record.id] = row.where
    return items


def of_kind(kind: type[K], items: Iterable[Item]) -> list[K]:
    """The items of one kind."""
    return [item for item in items if isinstance(item, kind)]


def _layout_of(row: Row, layouts: Sequence[Layout[S]]) -> Layout[S]:
    """The layout with the greatest share of its fields in the row; the first of equals."""
    missing = [(layout, [name for name in layout.fields if not row.has(name)]) for layout in layouts]
    best, lacking = min(missing, key=lambda found: len(found[1]) / len(found[0].fields))
    if not lacking:
        return best
    known = "; ".join(f"{layout.title}: {', '.join(layout.fields)}" for layout in layouts)
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
    relation: str | None = None,
) -> EditRecord | SkippedRecord:
    """The edit record of a row, or a skipped record if the new answer is true already.

    Prompts lose trailing space, targets and subject also leading space. A "{}" in a prompt without the subject is where
    the subject goes. ``target_true`` is the old answer, ``also_true`` are its other spellings and other old answers;
    ``locality`` are prompts with the answers that should not change, as are ``subject_facts``. The row's
    ``subject_fact_prompts`` and ``generation_prompts`` (with ``snippets``) are read here. ``id`` replaces the row's.
    """
    facts = [*subject_facts, *pairs(row.children("subject_fact_prompts"))]
    subject = subject and subject.strip()
    if subject and nfc(subject) not in nfc(prompt):
        prompt = prompt.replace("{}", subject, 1)
    target, target_true = target.strip(), target_true and target_true.strip()
    try:
        request = EditRequest(id or row.id, prompt.rstrip(), subject, target, target_true)
    except RecordError as error:
        raise RowError(row.where, str(error)) from None
    if folded(target) in {folded(answer) for answer in (target_true, *also_true) if answer is not None}:
        reason = f"record {request.id!r}: the new answer {target!r} is a true one already, there is nothing to edit"
        return SkippedRecord(row.where, reason)
    asked: list[tuple[str, str, str | None]] = [(PARAPHRASE, text, target) for text in paraphrases]
    asked += [(LOCALITY, *pair) for pair in locality] + [(SUBJECT_FACT, *pair) for pair in facts]
    probes = [Probe(kind, text.rstrip(), answer and answer.strip()) for kind, text, answer in asked]
    selected, left_out = select_probes(request, probes)
    prompts, snippets = (tuple(row.texts(name)) if row.has(name) else () for name in ("generation_prompts", "snippets"))
    free_text = GenerationPrompts(prompts, snippets) if prompts else None
    return EditRecord(request, selected, free_text, left_out, relation)


def pairs(rows: Iterable[Row]) -> list[tuple[str, str | None]]:
    """Objects ``{prompt, target?}`` as pairs."""
    return [(row.text("prompt"), row.text("target") if row.has("target") else None) for row in rows]


def select_probes(request: EditRequest, probes: Iterable[Probe]) -> tuple[tuple[Probe, ...], tuple[str, ...]]:
    """The probes to ask, and the reasons to leave out the others ("paraphrase: is the edited prompt").

    Left out are paraphrases that equal the edited prompt but for white space (case counts: another case tests
    generality), other probes that equal it but for case and white space, and repetitions.
    """
    kept: dict[tuple[str, str, str | None], Probe] = {}
    left_out = []
    for probe in probes:
        same_text = _spaced(probe.prompt) == _spaced(request.prompt)
        key = probe.kind, _spaced(probe.prompt), probe.target
        if same_text or (probe.kind != PARAPHRASE and folded(probe.prompt) == folded(request.prompt)):
            left_out.append(f"{probe.kind}: is the edited prompt")
        elif key in kept:
            left_out.append(f"{probe.kind}: is asked already")
        else:
            kept[key] = probe
    return tuple(kept.values()), tuple(left_out)


def _spaced(text: str) -> str:
    return nfc(" ".join(text.split()))


def apply_format(record: EditRecord, prompt_format: PromptFormat, paraphrases: int | None = None) -> EditRecord:
    """The record with all its prompts in the format, and at most ``paraphrases`` paraphrases (None: all)."""
    probes, count = [], 0
    for probe in record.probes:
        count += probe.kind == PARAPHRASE
        if probe.kind != PARAPHRASE or paraphrases is None or count <= paraphrases:
            probes.append(formatted(probe, prompt_format))
    free_text = record.free_text
    if free_text is not None:
        free_text = replace(free_text, prompts=tuple(map(prompt_format.apply, free_text.prompts)))
    return replace(record, request=formatted(record.request, prompt_format), probes=tuple(probes), free_text=free_text)


Asked = TypeVar("Asked", EditRequest, Probe, Passage)


def formatted(asked: Asked, prompt_format: PromptFormat) -> Asked:
    """The same with its prompt in the format; a passage without a prompt stays as it is."""
    return replace(asked, prompt=prompt_format.apply(asked.prompt)) if asked.prompt else asked

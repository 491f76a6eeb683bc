"""Datasets and their layouts: rows of raw fields, parsed to edit records with the probes to ask."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


Item = EditRecord | Passage | Probe | SkippedRecord
"""Result of parsing a row. Passages are the dataset's accurate sentences, probes are questions of no record."""


@dataclass(frozen=True)
class Settings:
    """Settings of every dataset.

    Attributes:
        plain_path: Ordinary text for perplexity: rows with a field ``text``, or a ``.txt`` file, one text a line.
        unrelated_path: Questions of no record, with their answers: rows with ``prompt`` and ``target``, ``question``
            and ``answer``, ``src`` and ``answers`` (the first is right), or ``text`` and ``labels``; or "pocket".
        pocket_seed: Seed of the embedded world, where a path is "pocket".
        prompt_format: Text around every prompt, with "{}" where the prompt goes ("[INST]{}[/INST]"): prompts of edits
            and probes, unrelated questions, prompts for free text, the text before an accurate sentence, and the
            methods' own prompts.
        paraphrases: Ask this many paraphrases of each record; None asks all.
    """

    plain_path: str | None = None
    unrelated_path: str | None = None
    pocket_seed: int = 0
    prompt_format: str = "{}"
    paraphrases: int | None = None

    def __post_init__(self) -> None:
        PromptFormat.parse(self.prompt_format)
        at_least(0, paraphrases=self.paraphrases)


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Layout(Generic[S]):
    """A layout of records: its title, the fields that a record must have, and the function from a row to its items.

    The fields tell the layouts of a dataset apart. ``parse`` raises :class:`RowError`.
    """

    title: str
    fields: tuple[str, ...]
    parse: Callable[[Row, S], Iterable[Item]]


@dataclass(frozen=True)
class Dataset(Generic[S]):
    """A dataset: its registered name, its settings dataclass, and the layouts of its records.

    With ``sentences`` its targets are sentences, so that their perplexity is measured too.
    """

    name: str
    settings: type[S]
    layouts: tuple[Layout[S], ...]
    sentences: bool = False


@dataclass
class ParsedRows:
    """Items of a file's rows by kind, in file order."""

    records: list[EditRecord] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    skipped: list[SkippedRecord] = field(default_factory=list)

    def add(self, item: Item) -> None:
        """Append an item to the list of its kind."""
        if isinstance(item, EditRecord):
            self.records.append(item)
        elif isinstance(item, Passage):
            self.passages.append(item)
        elif isinstance(item, Probe):
            self.probes.append(item)
        else:
            self.skipped.append(item)


def parse_rows(
    rows: Iterable[Row | RowError], layouts: Sequence[Layout[S]], settings: S, on_error: str, limit: int | None = None
) -> ParsedRows:
    """Parse rows until they end, or until there are ``limit`` edit records.

    A row that cannot be used raises a :class:`RowError`, or is listed as skipped under ``on_error="skip"``.
    """
    parsed = ParsedRows()
    seen: dict[str, str] = {}  # id -> place
    for row in rows:
        try:
            for item in _parse(row, layouts, settings, seen):
                parsed.add(item)
        except RowError as error:
            if on_error == "raise":
                hint = "correct the record, or leave it out with on_error=skip"
                raise RowError(error.where, f"{error.reason}; {hint}") from None
            parsed.skipped.append(SkippedRecord(error.where, error.reason))
        if limit is not None and len(parsed.records) >= limit:
            del parsed.records[limit:]
            break
    return parsed


def _parse(row: Row | RowError, layouts: Sequence[Layout[S]], settings: S, seen: dict[str, str]) -> list[Item]:
    if isinstance(row, RowError):
        raise row
    items = list(_layout_of(row, layouts).parse(row, settings))
    for item in items:
        if isinstance(item, EditRecord):
            if item.id in seen:
                raise RowError(row.where, f"record {item.id!r}, field 'id': already used at {seen[item.id]}")
            seen[item.id] = row.where
    return items


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
) -> EditRecord | SkippedRecord:
    """The edit record of a row, or a skipped record if the new answer is true already.

    Prompts lose trailing space, targets and subject also leading space. A "{}" in a prompt without the subject is where
    the subject goes. The row's ``subject_fact_prompts`` and ``generation_prompts`` (with ``snippets``) are read here.

    Args:
        prompt: Full prompt.
        target_true: Old answer, if the data has one.
        locality: Prompts whose answer should not change, with their answers; ``subject_facts`` likewise.
        also_true: Other spellings of the old answer, and other old answers.
        id: Id of the record, if the row yields several; None takes the row's.
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
    return EditRecord(request, selected, GenerationPrompts(prompts, snippets) if prompts else None, left_out)


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

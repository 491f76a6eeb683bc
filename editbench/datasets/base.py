"""Datasets and their layouts: rows of raw fields, parsed to edit records with the probes to ask."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Generic, TypeVar

from editbench import plugins
from editbench.checks import at_least, unknown
from editbench.datasets.rows import Row, RowError
from editbench.records import (
    BRACES,
    CHAIN,
    FOLLOWS,
    LOCALITY,
    PARAPHRASE,
    REWRITE,
    SUBJECT_FACT,
    EditRecord,
    EditRequest,
    GenerationPrompts,
    Passage,
    Probe,
    PromptFormat,
    RecordError,
    SkippedRecord,
    check_filled,
    formatted,
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

    Attributes:
        fields: The file's names of fields, by those here: ``dataset.fields.target=target_new``.
        encoding: Encoding of text files ("gbk"); null for UTF-8.
        plain_path: Ordinary text for perplexity: rows with ``text``, or a ``.txt`` with one text a line.
        unrelated_path: Questions of no record, with their answers: a file, or "pocket".
        pocket_seed: Seed of the embedded world, where a path is "pocket".
        prompt_format: Text around every prompt, with "{}" where the prompt goes.
        chat_template: True for the tokenizer's chat template around every prompt; a text: with this system message.
        paraphrases: Number of paraphrases to ask of each record; null for all.
    """

    fields: dict[str, str] = field(default_factory=dict)
    encoding: str | None = None
    plain_path: str | None = None
    unrelated_path: str | None = None
    pocket_seed: int = 0
    prompt_format: Any = "{}"  # or a PromptFormat
    chat_template: Any = False
    paraphrases: int | None = None

    def __post_init__(self) -> None:
        PromptFormat.parse(self.prompt_format)
        at_least(0, paraphrases=self.paraphrases)
        if not isinstance(self.chat_template, (bool, str, type(None))):
            raise ValueError(f"chat_template is {self.chat_template!r}; it must be true, false or a system message")

    def format_of_prompts(self, chat_format: PromptFormat | None = None) -> PromptFormat:
        """The format of every prompt, inside that of a chat template if there is one."""
        own = PromptFormat.parse(self.prompt_format)
        return own if chat_format is None else own.inside(chat_format)


S = TypeVar("S", bound=Settings)
K = TypeVar("K", EditRecord, Passage, Probe, SkippedRecord)


@dataclass(frozen=True)
class Layout(Generic[S]):
    """A layout of records."""

    title: str
    fields: tuple[str, ...]  # that a record must have; they tell the layouts of a dataset apart
    parse: Callable[[Row, S], Iterable[Item]]  # from a row to its items; raises RowError
    optional: tuple[str, ...] = ()  # fields that are read where they are there
    unused: tuple[str, ...] = ()  # fields of the published files of which no question is made; may have * and ?


@dataclass(frozen=True)
class Dataset(Generic[S]):
    """A dataset, as other packages may register one too."""

    name: str
    settings: type[S]
    layouts: tuple[Layout[S], ...]
    sentences: bool = False  # whether targets are sentences, so that their perplexity is measured too
    reserved: int = 0  # last records of the published file that no stream edits (editbench.datasets.splits)


@dataclass
class Unread:
    """What the rows had, and nothing read."""

    ignored: Counter[str] = field(default_factory=Counter)  # records by field, with the hints of :func:`hint`
    unmapped: set[str] = field(default_factory=set)  # sources of ``Settings.fields`` that no row had so far
    names: set[str] = field(default_factory=set)  # of the rows' fields
    rows: int = 0


def parse_rows(
    rows: Iterable[Row | RowError], layouts: Sequence[Layout[S]], settings: S, unread: Unread | None = None
) -> Iterator[list[Item] | RowError]:
    """The items of each row in file order, or the reason why a row cannot be used; ``unread`` notes the rest."""
    seen: dict[str, str] = {}  # id -> place
    unread = unread or Unread()
    known = {name for layout in layouts for name in (*layout.fields, *layout.optional)}
    for name in settings.fields:
        if name not in known:
            raise unknown("field in dataset.fields", name, known)
    unread.unmapped = set(settings.fields.values())
    for row in rows:
        try:
            items: list[Item] | RowError = _parse(row, layouts, settings, seen, unread)
        except RowError as error:
            items = error
        yield items


def take(rows: Iterable[list[Item] | RowError], on_error: str, limit: int | None = None) -> list[Item]:
    """The items of rows, until the rows end or ``limit`` edit records are there; a row may hold more.

    A row that cannot be used raises its :class:`RowError`, or is listed as skipped under ``on_error="skip"``.
    """
    taken, count = list[Item](), 0
    for row in rows:
        if isinstance(row, RowError):
            if on_error == "raise":
                raise RowError(row.where, f"{row.reason}; correct the record, or leave it out with on_error=skip")
            row = [SkippedRecord(row.where, row.reason)]
        taken += row
        count += len(of_kind(EditRecord, row))
        if limit is not None and count >= limit:
            break
    return taken


def _parse(
    row: Row | RowError, layouts: Sequence[Layout[S]], settings: S, seen: dict[str, str], unread: Unread
) -> list[Item]:
    if isinstance(row, RowError):
        raise row
    own = row.renamed(settings.fields)
    unread.unmapped -= {source for name, source in settings.fields.items() if own.fields[name] is not None}
    layout = _layout_of(own, layouts)
    items = list(layout.parse(own, settings))
    unread.rows += 1
    unread.names |= {*row.fields}
    for name in own.unread():
        if not any(fnmatchcase(name, pattern) for pattern in layout.unused):
            unread.ignored[hint(name, layout)] += 1
    for record in of_kind(EditRecord, items):
        if record.id in seen:
            raise RowError(row.where, f"record {record.id!r}, field 'id': already used at {seen[record.id]}")
        seen[record.id] = row.where
    return items


ALIKE = {
    "paraphrases": ("rephrase", "rephrase_prompt", "rephrases", "paraphrase_prompts", "paraphrased_question"),
    "locality": ("neighborhood_prompts", "locality_prompt", "locality_prompts", "neighborhood", "loc"),
    "target": ("target_new", "answer", "new_answer", "alt", "ans", "object", "label", "output"),
    "target_true": ("ground_truth", "target_old", "old_answer", "true_answer", "original"),
    "prompt": ("question", "src", "text", "query", "input", "instruction", "update"),
    "portability": ("portability_prompt", "portability_prompts"),
    "subject_facts": ("attribute_prompts",),
    "multi_hop": ("mhop", "multihop", "hops"),
    "subject": ("entity", "concept", "head"),
}
"""Names that other tools give to fields here."""


def hint(name: str, layout: Layout[Any]) -> str:
    """A field that nothing reads, with the field of the layout that may be meant."""
    known = (*layout.fields, *layout.optional)
    if name in known:  # goes with another field, which is empty
        return name
    meant = [own for own, others in ALIKE.items() if name in others and own in known]
    meant = meant or difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f"{name} (did you mean {meant[0]}?)" if meant else name


def of_kind(kind: type[K], items: Iterable[object]) -> list[K]:
    """The items of one kind."""
    return [item for item in items if isinstance(item, kind)]


def _layout_of(row: Row, layouts: Sequence[Layout[S]]) -> Layout[S]:
    """The layout with the greatest share of its fields filled; of equals the first with all of them there."""

    def absent(layout: Layout[S]) -> tuple[float, bool]:
        """The share of its fields that hold nothing, and whether one is not even there."""
        empty = sum(row.fields.get(name) is None for name in layout.fields)
        return empty / len(layout.fields), any(name not in row.fields for name in layout.fields)

    best = min(layouts, key=absent)
    lacking = [name for name in best.fields if name not in row.fields]
    if not lacking:
        return best  # its parser knows which fields may be empty
    known = "; ".join(f"{layout.title}: {', '.join(layout.fields)}" for layout in layouts)
    alike = {one: name for one in lacking for name in reversed([*row.fields]) if name in ALIKE.get(one, ())}
    meant = [" ".join(f"dataset.fields.{one}={name}" for one, name in alike.items())] if alike else []
    meant += [f"dataset={name}" for name in _readers(row)]
    reason = f"is missing; the record has {', '.join(row.fields) or 'no fields'}. Layouts that can be read: {known}"
    raise row.error(lacking[0], reason + (f". Did you mean {' or '.join(meant)}?" if meant else ""))


def _readers(row: Row) -> list[str]:
    """Names of the data sets with a layout for a row; the one with the most fields first."""
    has = {name for name, value in row.fields.items() if value is not None}
    found = []
    for name in plugins.entry_points(plugins.DATASETS):
        fitting = [
            layout for layout in plugins.load(plugins.DATASETS, name, "dataset").layouts if has >= {*layout.fields}
        ]
        found += [(max(len(layout.fields) for layout in fitting), name)] if fitting else []
    return [name for _, name in sorted(found, key=lambda one: -one[0])][:1]


NEED_ANSWERS = (*FOLLOWS, CHAIN)
Answers = str | Sequence[str] | None
"""Right answers: one, or one with its other spellings behind it, or none that is known."""


def edit_record(
    row: Row,
    *,
    prompt: str,
    target: str | Sequence[str],
    subject: str | None = None,
    target_true: Answers = None,
    paraphrases: Iterable[str] = (),
    locality: Iterable[tuple[str, Answers]] = (),
    subject_facts: Iterable[tuple[str, Answers]] = (),
    follows: Iterable[tuple[str, str, Answers]] = (),
    also_true: Iterable[str] = (),
    id: str | None = None,
    relation: str | None = None,
) -> EditRecord | SkippedRecord:
    """The edit record of a row, or a skipped record if the new answer is true already.

    Prompts lose trailing space, targets and subject also leading space. A "{}" is where the subject goes, in the
    prompt and in questions about the subject. ``target_true`` is the old answer, ``also_true`` are its other spellings
    and other old answers; ``locality`` are prompts with the answers that should not change, as are ``subject_facts``;
    ``follows`` are kinds, prompts and answers of what follows from the edit. The row's ``subject_fact_prompts`` and
    ``generation_prompts`` (with ``snippets``) are read here. ``id`` replaces the row's.
    """
    facts = [*subject_facts, *pairs(row.children("subject_fact_prompts"))]
    new, old = answers(target), answers(target_true)
    if not new:
        raise row.error("target", "is empty; it must hold the new answer")
    try:
        request = EditRequest(id or row.id, prompt, subject, new[0], old[0] if old else None)
        asked: list[tuple[str, str, Answers]] = [(PARAPHRASE, text, new) for text in paraphrases if text.strip()]
        asked += [(LOCALITY, *pair) for pair in locality] + [(SUBJECT_FACT, *pair) for pair in facts] + [*follows]
        probes = [_probe(request, *one) for one in asked]
        prompts, snippets = (tuple(row.several(name)) for name in ("generation_prompts", "snippets"))
        prompts = tuple(_filled(request, text) for text in prompts)
    except RecordError as error:
        raise RowError(row.where, str(error)) from None
    true = {folded(answer) for answer in (*old, *also_true)}
    if folded(new[0]) in true:
        reason = f"record {request.id!r}: the new answer {new[0]!r} is a true one already, there is nothing to edit"
        return SkippedRecord(row.where, reason)
    also = tuple(text for text in new[1:] if folded(text) not in true)
    selected, left_out = select_probes(request, probes)
    left_out += (f"{REWRITE}: a spelling of the new answer is a true one already",) * (len(new) - 1 - len(also))
    free_text = GenerationPrompts(prompts, snippets) if prompts else None
    return EditRecord(request, selected, free_text, left_out, relation, also=also)


def answers(given: Answers) -> tuple[str, ...]:
    """Right answers, each once, without space around them and without empty ones."""
    several = (given,) if isinstance(given, str) else given or ()
    return tuple(dict.fromkeys(text.strip() for text in several if text.strip()))


def _probe(request: EditRequest, kind: str, prompt: str, given: Answers) -> Probe:
    right = answers(given)
    if kind == LOCALITY and request.subject is not None and BRACES in prompt:
        found = f"record {request.id!r}: {BRACES} in the locality question {prompt!r} would be the edited subject"
        raise RecordError(f"{found}; write another one out, or make it one of the subject_facts")
    text = _filled(request, prompt).rstrip(" \t")
    return Probe(kind, text, right[0] if right else None, () if kind == PARAPHRASE else right[1:])


def _filled(request: EditRequest, text: str) -> str:
    """A question about the subject, which goes where the text has "{}"."""
    if request.subject is None:
        check_filled(request.id, text)
        return text
    return text.replace(BRACES, request.subject)


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
        if probe.kind in NEED_ANSWERS and probe.target is None:
            left_out.append(f"{probe.kind}: has no answer")
        elif same_text or (probe.kind != PARAPHRASE and folded(probe.prompt) == folded(request.prompt)):
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
    asked = [probe for probe in record.probes if probe.kind == PARAPHRASE][:paraphrases]
    kept = [probe for probe in record.probes if probe.kind != PARAPHRASE or any(probe is one for one in asked)]
    probes = [formatted(probe, prompt_format) for probe in kept]
    free_text = record.free_text
    if free_text is not None:
        free_text = replace(free_text, prompts=tuple(map(prompt_format.apply, free_text.prompts)))
    return replace(record, request=formatted(record.request, prompt_format), probes=tuple(probes), free_text=free_text)

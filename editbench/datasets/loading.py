"""From a path to a record set: rows parsed, formatted and fingerprinted, with texts and unrelated questions."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from editbench import fetched, plugins
from editbench.checks import one_of, suggestion, unknown, whole_number
from editbench.config import DatasetConfig
from editbench.datasets import splits
from editbench.datasets.base import (
    Dataset,
    Item,
    K,
    Layout,
    S,
    Settings,
    Unread,
    apply_format,
    of_kind,
    parse_rows,
    take,
)
from editbench.datasets.files import read_rows, read_texts
from editbench.datasets.rows import Row, RowError, make_row
from editbench.records import (
    UNRELATED,
    EditRecord,
    EditRequest,
    Passage,
    Probe,
    PromptFormat,
    RecordError,
    RecordSet,
    SkippedRecord,
    Split,
    formatted,
)
from editbench.words import needs_space

POCKET = "pocket"
"""Path that stands for the embedded world."""


Given = Mapping[str, Any] | EditRecord | EditRequest
Source = str | Path | Given | Iterable[Given]
"""Where records are: a path, or the records themselves."""
Place = str | Path | list[Given]
"""A source whose records can be read several times."""


def load(
    name: str,
    path: Source,
    *,
    on_error: str = "raise",
    limit: int | None = None,
    split: str | None = None,
    **settings: Any,
) -> RecordSet:
    """Load a dataset.

    Args:
        name: Registered name ("counterfact").
        path: A JSON, JSON Lines, CSV or Parquet file; a folder with one such file, or that Hugging Face's ``datasets``
            can read; "hub:NAME[:CONFIG][@SPLIT]"; "fetched", the file of ``editbench fetch NAME``; "pocket", the
            embedded world; or records themselves, one or several: all as dictionaries, or all as
            :class:`EditRecord` or :class:`EditRequest`, whose prompts have no format yet.
        on_error: Treatment of a record that cannot be used: "raise", or "skip" to list it in ``RecordSet.skipped``. A
            file that is broken as a whole always raises; a record without anything to edit is always listed.
        limit: Load the first ``limit`` records of the split; None loads all.
        split: "stream", "tune", "train" or "all" (:mod:`editbench.datasets.splits`); None is "stream" for the embedded
            world and published files, "all" for others.
        **settings: Fields of the dataset's settings, a subclass of :class:`editbench.datasets.base.Settings`.

    Raises:
        RecordError: A record or file cannot be used; the message names file, line, id and field.
        ValueError: A name, a setting or its value is unknown.
    """
    dataset = find(name)
    known = [field.name for field in dataclasses.fields(dataset.settings)]
    if wrong := [setting for setting in settings if setting not in known]:
        raise unknown(f"setting of {name}", wrong[0], known)
    return load_dataset(dataset, path, dataset.settings(**settings), on_error=on_error, limit=limit, split=split)


def from_config(config: DatasetConfig, chat_format: PromptFormat | None) -> RecordSet:
    """Load the dataset of a run's configuration, with the format of the chat template where it asks for that.

    ``chat_format`` is that of :func:`~editbench.model.chat_template.format_of`, or of records that were read before
    (``RecordSet.chat_format``).
    """
    dataset = find(config.name)
    settings = dataset.settings() if config.settings is None else config.settings
    return load_dataset(
        dataset,
        config.path,
        settings,
        on_error=config.on_error,
        limit=config.limit,
        split=config.split,
        chat_format=chat_format,
    )


def find(name: str) -> Dataset[Any]:
    """The dataset registered as ``name``."""
    dataset: Dataset[Any] = plugins.load(plugins.DATASETS, name, "dataset")
    return dataset


def load_dataset(
    dataset: Dataset[S],
    path: Source,
    settings: S,
    *,
    on_error: str = "raise",
    limit: int | None = None,
    split: str | None = None,
    chat_format: PromptFormat | None = None,
) -> RecordSet:
    """Load a dataset's records, its texts and its unrelated questions; :func:`load` does so by name."""
    place = _in_list(path)
    if settings.chat_template in (None, False):
        chat_format = None
    elif chat_format is None:
        raise ValueError("chat_template needs the model's tokenizer: give prompt_format=lm.chat_format() instead")
    one_of(("raise", "skip"), on_error=on_error)
    if limit is not None:
        whole_number(1, limit=limit)
    place = fetched.find_dataset(dataset.name) if str(place) == fetched.FETCHED else place
    unread = Unread()
    items, part = _items(dataset, place, settings, on_error, limit, split, unread)
    if unread.rows and (absent := sorted(unread.unmapped)):
        meant = suggestion(absent[0], unread.names)
        raise RecordError(f"{_shown(place)}: dataset.fields names {absent[0]!r}, which no record has; {meant}")
    records = _some("record", EditRecord, items, place)[:limit]
    texts = {"accurate": found} if (found := of_kind(Passage, items)) else {}
    beside, questions, skipped = _beside(place, settings, part.name, on_error)
    texts |= beside

    prompt_format = settings.format_of_prompts(chat_format)
    edits = tuple(apply_format(record, prompt_format, settings.paraphrases) for record in records)
    texts_by_name = {name: tuple(formatted(text, prompt_format) for text in several) for name, several in texts.items()}
    unrelated = tuple(formatted(probe, prompt_format) for probe in questions)
    return RecordSet(
        name=dataset.name,
        records=edits,
        texts=MappingProxyType(texts_by_name),
        skipped=(*of_kind(SkippedRecord, items), *skipped),
        fingerprint=fingerprint(edits, texts_by_name, unrelated),
        unrelated=unrelated,
        prompt_format=prompt_format,
        chat_format=chat_format,
        sentences=dataset.sentences,
        split=part,
        ignored=MappingProxyType(dict(unread.ignored)),
    )


def _beside(
    path: Place, settings: Settings, part: str, on_error: str
) -> tuple[dict[str, list[Passage]], list[Probe], list[SkippedRecord]]:
    """Texts by name, unrelated questions, and what was left out, from the files beside the records."""
    texts: dict[str, list[Passage]] = {}
    questions: list[Probe] = []
    skipped: list[SkippedRecord] = []
    for name, layouts in BESIDE.items():
        given = getattr(settings, f"{name}_path", None)
        if given is None and str(path) == POCKET and name != "unrelated":
            given = POCKET
        if given is None:
            continue
        rows = _rows(name, given, settings.pocket_seed, part, settings.encoding)
        parsed = take(parse_rows(rows, layouts, Settings()), on_error)
        skipped += of_kind(SkippedRecord, parsed)
        if name == "unrelated":
            questions = _some("question", Probe, parsed, given)
        else:
            texts[name] = _some("text", Passage, parsed, given)
    return texts, questions, skipped


def _items(
    dataset: Dataset[S],
    path: Place,
    settings: S,
    on_error: str,
    limit: int | None,
    wanted: str | None,
    unread: Unread,
) -> tuple[list[Item], Split]:
    """The items of a dataset's split, and its facts. The embedded world has its own groups of subjects."""
    if wanted is not None:
        one_of(splits.CHOICES, **{"dataset.split": wanted})
    if str(path) == POCKET:
        part = Split(wanted or splits.STREAM, "the embedded world's own groups of subjects")
        rows = _rows(dataset.name, path, settings.pocket_seed, part.name)
        return take(parse_rows(rows, dataset.layouts, settings, unread), on_error, limit), part
    parsed: Iterable[list[Item] | RowError] | None = _made(path)
    if parsed is None:
        rows = _rows(dataset.name, path, encoding=settings.encoding)
        parsed = parse_rows(rows, dataset.layouts, settings, unread)
    chosen, part = splits.choose(parsed, wanted, dataset.reserved)
    return take(chosen, on_error, limit), part


def _in_list(path: Source) -> Place:
    """A path as it is, records in a list."""
    if isinstance(path, (str, Path)):
        if not str(path).strip():
            raise ValueError("the path of the records is empty; give a file, a folder, hub:NAME or pocket")
        return path
    if hasattr(path, "columns") and (turn := [name for name in ("to_dicts", "to_dict") if hasattr(path, name)]):
        call = "to_dicts()" if turn[0] == "to_dicts" else 'to_dict("records")'  # of polars, of pandas
        raise TypeError(f"records are no {type(path).__name__}; give its rows as dictionaries: table.{call}")
    if isinstance(path, (Mapping, EditRecord, EditRequest)):
        return [path]
    if not isinstance(path, Iterable):
        raise TypeError(f"records cannot be read from {type(path).__name__}; give a path, or a list of dictionaries")
    return list(path)


def _made(path: Place) -> list[list[Item]] | None:
    """The items of records that are none to be parsed; None of others."""
    if isinstance(path, (str, Path)) or not path:
        return None
    records = [EditRecord(one) if isinstance(one, EditRequest) else one for one in path]
    made = of_kind(EditRecord, records)
    if len(made) < len(records):
        return None
    repeated = next((id for id, count in Counter(record.id for record in made).items() if count > 1), None)
    if repeated is not None:
        raise RecordError(f"two records have the id {repeated!r}; give each its own")
    return [[record] for record in made]


def _rows(
    name: str, path: Place, seed: int = 0, split: str = splits.ALL, encoding: str | None = None
) -> Iterator[Row | RowError]:
    """Rows of a dataset, a text collection or the unrelated questions, from a file, memory or the embedded world."""
    if not isinstance(path, (str, Path)):
        return (make_row(f"records[{i}]", i, one) for i, one in enumerate(path))
    if str(path) != POCKET:
        return read_texts(path, encoding) if name in ("accurate", "plain") else read_rows(path, encoding)
    from editbench.pocket.dataset_files import ROWS

    if name not in ROWS:
        raise ValueError(f"the embedded world has no {name} records; give the path of a file")
    fields = ROWS[name](seed, split) if split != splits.ALL else _all_splits(name, seed)
    return (make_row(f"{POCKET}:{name}:{i + 1}", i, one) for i, one in enumerate(fields))


def _all_splits(name: str, seed: int) -> list[dict[str, Any]]:
    """Rows of the embedded world's splits together, with ids of their own; texts and questions are those of streams."""
    from editbench.pocket.dataset_files import ROWS

    if name in ("plain", "unrelated"):
        return ROWS[name](seed, splits.STREAM)
    rows = [(split, place, row) for split in splits.SPLITS for place, row in enumerate(ROWS[name](seed, split))]
    own = [row for split, _, row in rows if split == splits.STREAM]
    others = [(f"{split}-{place}", row) for split, place, row in rows if split != splits.STREAM]
    return [*own, *({**row, "case_id": id} for id, row in others)]


def load_texts(path: str | Path) -> list[str]:
    """Plain texts: texts or rows with a field ``text`` (JSON, JSON Lines, Parquet, a folder, the hub); lines of a .txt.

    Empty rows of a folder, of a Parquet file and of the hub are left out: collections of texts have them.
    """
    return list(iterate_texts(path))


def iterate_texts(path: str | Path) -> Iterator[str]:
    """The texts of :func:`load_texts` one by one; those of the hub are not downloaded before they are asked for."""
    for row in read_texts(path):
        for passage in of_kind(Passage, take(parse_rows([row], BESIDE["plain"], Settings()), "raise")):
            yield passage.text


def fingerprint(
    records: Iterable[EditRecord], texts: Mapping[str, Iterable[Passage]], unrelated: Iterable[Probe] = ()
) -> str:
    """SHA-256 (hex) of the content: equal for the same records and texts from any file."""
    lines: list[list[object]] = []
    for record in records:
        request = record.request
        fields = [request.id, request.prompt, request.subject, request.target, request.target_true]
        lines.append(["record", fields, [[probe.kind, probe.prompt, probe.target] for probe in record.probes]])
        if request.subject_at is not None:  # the next ones too are new: digests of earlier runs stay
            lines.append(["subject at", request.subject_at])
        if any(spellings := [record.also, *(probe.also for probe in record.probes)]):
            lines.append(["also", spellings])
        if unspaced := [text for text in _prompts(record) if not needs_space(text)]:
            lines.append(["no space behind", unspaced])
        if (free_text := record.free_text) is not None:  # under its first name, for digests of earlier runs
            lines.append(["essay", free_text.prompts, free_text.references])
    lines += [["text", name, passage.prompt, passage.text] for name in sorted(texts) for passage in texts[name]]
    lines += [["unrelated", probe.prompt, probe.target] for probe in unrelated]
    digest = hashlib.sha256()
    for line in lines:
        digest.update(json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n")
    return digest.hexdigest()


def _prompts(record: EditRecord) -> list[str]:
    return [record.request.prompt, *(probe.prompt for probe in record.probes)]


def _shown(path: Place) -> str:
    return str(path) if isinstance(path, (str, Path)) else "records"


def _some(name: str, kind: type[K], items: list[Item], path: Place) -> list[K]:
    """The items of one kind, of which there must be one."""
    path = _shown(path)
    found, skipped = of_kind(kind, items), of_kind(SkippedRecord, items)
    if not found and not skipped:
        raise RecordError(f"{path}: there is no {name} in it; give another file")
    if not found:
        reason = f"the first at {skipped[0].where}: {skipped[0].reason}"
        raise RecordError(f"{path}: no {name} is left, {len(skipped)} were skipped; {reason}")
    return found


def _question(prompt: str, answer: str) -> Callable[[Row, Settings], list[Probe]]:
    def parse(row: Row, settings: Settings) -> list[Probe]:
        right = row.right(answer)
        also = () if answer == "answers" else tuple(right[1:])  # of ZsRE's answers the first is right
        return [Probe(UNRELATED, row.text(prompt), right[0], also)]

    return parse


BESIDE: dict[str, tuple[Layout[Settings], ...]] = {
    "accurate": (
        Layout(
            "accurate sentences, SCEN",
            ("text", "labels"),
            lambda row, _: [Passage(row.text("text").rstrip(), row.text("labels").strip())],
        ),
    ),
    "plain": (Layout("plain text", ("text",), lambda row, _: [Passage("", row.text("text"))]),),
    "unrelated": tuple(
        Layout(f"questions with {prompt} and {answer}", (prompt, answer), _question(prompt, answer))
        for prompt, answer in (("prompt", "target"), ("question", "answer"), ("src", "answers"), ("text", "labels"))
    ),
}
"""Layouts of the files beside a dataset's records, by the name before ``_path`` in the settings."""

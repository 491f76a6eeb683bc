"""From a path to a record set: rows parsed, formatted and fingerprinted, with texts and unrelated questions."""

from __future__ import annotations

import hashlib
import json
from types import MappingProxyType
from typing import TYPE_CHECKING

from editbench.checks import one_of, whole_number
from editbench.datasets.base import Layout, ParsedRows, S, Settings, apply_format, formatted, parse_rows
from editbench.datasets.files import make_row, read_rows, read_texts
from editbench.records import UNRELATED, EditRecord, Passage, Probe, PromptFormat, RecordError, RecordSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from editbench.datasets.base import Dataset
    from editbench.datasets.files import Row, RowError
    from editbench.records import SkippedRecord


POCKET = "pocket"
"""Path that stands for the embedded world."""


def load_dataset(
    dataset: Dataset[S], path: str | Path, settings: S, *, on_error: str = "raise", limit: int | None = None
) -> RecordSet:
    """Load a dataset's records, its texts and its unrelated questions; :func:`editbench.datasets.load` by name."""
    one_of(("raise", "skip"), on_error=on_error)
    if limit is not None:
        whole_number(1, limit=limit)
    in_pocket = str(path) == POCKET
    if in_pocket and not dataset.has_pocket_version:
        raise ValueError(f"the embedded world has no {dataset.name} records; give the path of a file")
    rows = _pocket_rows(dataset.name, settings.pocket_seed) if in_pocket else read_rows(path)
    main = parse_rows(rows, dataset.layouts, settings, on_error, limit)
    _refuse_empty(path, "record", main.records, main)
    texts, skipped = _texts(settings, in_pocket, main, on_error)
    unrelated = _unrelated(settings, on_error, skipped)

    prompt_format = PromptFormat.parse(settings.prompt_format)
    records = tuple(apply_format(record, prompt_format, settings.paraphrases) for record in main.records)
    texts = {name: tuple(formatted(passage, prompt_format) for passage in several) for name, several in texts.items()}
    unrelated = tuple(formatted(probe, prompt_format) for probe in unrelated)
    return RecordSet(
        name=dataset.name,
        records=records,
        texts=MappingProxyType(texts),
        skipped=tuple(skipped),
        fingerprint=fingerprint(records, texts, unrelated),
        unrelated=unrelated,
        prompt_format=prompt_format,
    )


def load_texts(path: str | Path) -> list[str]:
    """Plain texts: rows with a field ``text`` (JSON, JSON Lines, a folder or the hub), or the lines of a ``.txt``."""
    return [passage.text for passage in parse_rows(read_texts(path), PLAIN, Settings(), "raise").passages]


def _texts(
    settings: Settings, in_pocket: bool, main: ParsedRows, on_error: str
) -> tuple[dict[str, tuple[Passage, ...]], list[SkippedRecord]]:
    """Text collections by name: given files over the embedded world's texts over the dataset's own passages."""
    texts = {"accurate": tuple(main.passages)} if main.passages else {}
    skipped = list(main.skipped)
    sources: dict[str, tuple[str | Path, Iterator[Row | RowError]]] = {}
    if in_pocket:
        sources = {name: (POCKET, _pocket_rows(of, settings.pocket_seed)) for name, of in POCKET_TEXTS.items()}
    for name in ("accurate", "plain"):
        given = getattr(settings, f"{name}_path", None)
        if given is not None:
            sources[name] = given, read_texts(given)
    for name, (source, rows) in sources.items():
        parsed = parse_rows(rows, ACCURATE if name == "accurate" else PLAIN, Settings(), on_error)
        _refuse_empty(source, "text", parsed.passages, parsed)
        texts[name] = tuple(parsed.passages)
        skipped += parsed.skipped
    return texts, skipped


def _unrelated(settings: Settings, on_error: str, skipped: list[SkippedRecord]) -> tuple[Probe, ...]:
    """The questions of no record; rows that cannot be used are appended to ``skipped``."""
    source = settings.unrelated_path
    if source is None:
        return ()
    rows = _pocket_rows("unrelated", settings.pocket_seed) if source == POCKET else read_rows(source)
    parsed = parse_rows(rows, QUESTIONS, Settings(), on_error)
    _refuse_empty(source, "question", parsed.probes, parsed)
    skipped += parsed.skipped
    return tuple(parsed.probes)


def fingerprint(
    records: Iterable[EditRecord], texts: Mapping[str, Iterable[Passage]], unrelated: Iterable[Probe] = ()
) -> str:
    """SHA-256 (hex) of the content: equal for the same records and texts from any file."""
    digest = hashlib.sha256()
    for record in records:
        request = record.request
        fields = [request.id, request.prompt, request.subject, request.target, request.target_true]
        probes = [[probe.kind, probe.prompt, probe.target] for probe in record.probes]
        digest.update(_line(["record", fields, probes]))
        if (free_text := record.free_text) is not None:  # under its first name, for digests of earlier runs
            digest.update(_line(["essay", list(free_text.prompts), list(free_text.references)]))
    for name in sorted(texts):
        for passage in texts[name]:
            digest.update(_line(["text", name, passage.prompt, passage.text]))
    for probe in unrelated:
        digest.update(_line(["unrelated", probe.prompt, probe.target]))
    return digest.hexdigest()


def _line(value: list[object]) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def _refuse_empty(path: str | Path, kind: str, found: Sequence[object], parsed: ParsedRows) -> None:
    if found:
        return
    if not parsed.skipped:
        raise RecordError(f"{path}: there is no {kind} in it; give another file")
    first = parsed.skipped[0]
    raise RecordError(
        f"{path}: no {kind} is left, {len(parsed.skipped)} were skipped; the first at {first.where}: {first.reason}"
    )


POCKET_TEXTS = {"accurate": "accurate", "plain": "heldout_text"}
"""Texts of the embedded world by name of the collection; no shipped model was trained on its plain text."""


def _pocket_rows(name: str, seed: int) -> Iterator[Row | RowError]:
    """Rows of the embedded world: of a dataset, or a text collection."""
    from editbench.pocket import dataset_files

    for index, raw in enumerate(getattr(dataset_files, name)(seed)):
        yield make_row(f"{POCKET}:{name}:{index + 1}", index, {"text": raw} if isinstance(raw, str) else raw)


def _plain(row: Row, settings: Settings) -> list[Passage]:
    return [Passage("", row.text("text"))]


def _accurate(row: Row, settings: Settings) -> list[Passage]:
    return [Passage(row.text("text").rstrip(), row.text("labels").strip())]


def _question(prompt: str, answer: str) -> Callable[[Row, Settings], list[Probe]]:
    def parse(row: Row, settings: Settings) -> list[Probe]:
        answers = row.texts(answer) if answer == "answers" else [row.text(answer)]
        if not answers:
            raise row.error(answer, "is an empty list; it must hold the right answer")
        return [Probe(UNRELATED, row.text(prompt), answers[0])]

    return parse


PLAIN: tuple[Layout[Settings], ...] = (Layout("plain text", ("text",), _plain),)

ACCURATE: tuple[Layout[Settings], ...] = (Layout("accurate sentences, SCEN", ("text", "labels"), _accurate),)

QUESTIONS: tuple[Layout[Settings], ...] = tuple(
    Layout(f"questions with {prompt} and {answer}", (prompt, answer), _question(prompt, answer))
    for prompt, answer in (("prompt", "target"), ("question", "answer"), ("src", "answers"), ("text", "labels"))
)

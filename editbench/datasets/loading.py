"""From a path to a record set: rows, parsed; texts beside them; and the fingerprint of it all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from editbench.datasets.base import ParsedRows, S, Schema, Settings, parse_rows
from editbench.datasets.files import make_row, read_rows, read_texts
from editbench.records import PARAPHRASE, UNRELATED, EditRecord, EditRequest, Passage, Probe, RecordError, RecordSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from editbench.datasets.base import Dataset
    from editbench.datasets.files import Row, RowError
    from editbench.records import SkippedRecord


POCKET = "pocket"
"""The path that stands for the embedded world."""


def load_dataset(dataset: Dataset[S], path: str | Path, settings: S, *, on_error: str, limit: int | None) -> RecordSet:
    """Load one dataset; :func:`editbench.datasets.load` says how.

    Raises:
        RecordError: If a record, or a file, cannot be used.
        ValueError: If the embedded world is asked for a dataset that it does not have.
    """
    has_pocket_version = str(path) == POCKET
    if has_pocket_version and not dataset.has_pocket_version:
        raise ValueError(f"the embedded world has no {dataset.name} records; give the path of a file")
    rows = _pocket_rows(dataset.name, settings.pocket_seed) if has_pocket_version else read_rows(path)
    main = parse_rows(rows, dataset.schemas, settings, on_error, limit)
    _refuse_empty(path, "record", len(main.records), main)
    texts = {"accurate": tuple(main.passages)} if main.passages else {}
    skipped = list(main.skipped)

    sources = _pocket_texts(settings.pocket_seed) if has_pocket_version else {}
    for kind in ("accurate", "plain"):
        given = getattr(settings, f"{kind}_path", None)
        if given is not None:
            sources[kind] = given, read_texts(given)
    for kind, (source, text_rows) in sources.items():
        found = parse_rows(text_rows, ACCURATE if kind == "accurate" else PLAIN, Settings(), on_error)
        _refuse_empty(source, "text", len(found.passages), found)
        texts[kind] = tuple(found.passages)
        skipped += found.skipped

    texts = {name: tuple(formatted(one, settings.prompt_format) for one in several) for name, several in texts.items()}
    records = tuple(apply_format(record, settings) for record in main.records)
    unrelated, prompt_format = _unrelated(settings, on_error, skipped), settings.prompt_format
    digest = fingerprint(records, texts, unrelated)
    return RecordSet(dataset.name, records, MappingProxyType(texts), tuple(skipped), digest, unrelated, prompt_format)


def _unrelated(settings: Settings, on_error: str, skipped: list[SkippedRecord]) -> tuple[Probe, ...]:
    """The questions of no record; rows that cannot be used go to ``skipped``."""
    source = settings.unrelated_path
    if source is None:
        return ()
    rows = _pocket_rows("unrelated", settings.pocket_seed) if source == POCKET else read_rows(source)
    found = parse_rows(rows, QUESTIONS, Settings(), on_error)
    _refuse_empty(source, "question", len(found.probes), found)
    skipped += found.skipped
    return tuple(formatted(probe, settings.prompt_format) for probe in found.probes)


def fingerprint(
    records: Iterable[EditRecord], texts: Mapping[str, Iterable[Passage]], unrelated: Iterable[Probe] = ()
) -> str:
    """SHA-256 (hex) over the content: the same for the same records and texts, whatever file they came from."""
    digest = hashlib.sha256()
    for record in records:
        request = record.request
        fields = [request.id, request.prompt, request.subject, request.target, request.target_true]
        probes = [[probe.kind, probe.prompt, probe.target] for probe in record.probes]
        digest.update(_line(["record", fields, probes]))
        if record.free_text is not None:
            digest.update(_line(["free_text", list(record.free_text.prompts), list(record.free_text.references)]))
    for name in sorted(texts):
        for passage in texts[name]:
            digest.update(_line(["text", name, passage.prompt, passage.text]))
    for probe in unrelated:
        digest.update(_line(["unrelated", probe.prompt, probe.target]))
    return digest.hexdigest()


def _line(value: list[object]) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def _refuse_empty(path: str | Path, what: str, count: int, found: ParsedRows) -> None:
    if count:
        return
    if not found.skipped:
        raise RecordError(f"{path}: there is no {what} in it; give another file")
    first = found.skipped[0]
    raise RecordError(
        f"{path}: no {what} is left, {len(found.skipped)} were skipped; the first at {first.where}: {first.reason}"
    )


def _pocket_rows(name: str, seed: int) -> Iterator[Row | RowError]:
    from editbench.pocket import dataset_files as raw

    for index, fields in enumerate(getattr(raw, name)(seed)):
        yield make_row(f"{POCKET}:{name}:{index + 1}", index, fields)


def _pocket_texts(seed: int) -> dict[str, tuple[str | Path, Iterator[Row | RowError]]]:
    """The embedded world's accurate sentences, and the part of its plain text that no model was trained on."""
    from editbench.pocket import dataset_files

    plain = ({"text": text} for text in dataset_files.heldout_text(seed))
    return {
        "accurate": (POCKET, _pocket_rows("accurate", seed)),
        "plain": (POCKET, (make_row(f"{POCKET}:heldout_text:{i + 1}", i, fields) for i, fields in enumerate(plain))),
    }


Asked = TypeVar("Asked", EditRequest, Probe, Passage)


def apply_format(record: EditRecord, settings: Settings) -> EditRecord:
    """The record as it is asked: ``prompt_format`` around every prompt of it, and no more than ``paraphrases``."""
    probes, asked = [], 0
    for probe in record.probes:
        asked += probe.kind == PARAPHRASE
        if probe.kind != PARAPHRASE or settings.paraphrases is None or asked <= settings.paraphrases:
            probes.append(formatted(probe, settings.prompt_format))
    free_text = record.free_text
    if free_text is not None:
        free_text = replace(free_text, prompts=tuple(in_format(settings.prompt_format, p) for p in free_text.prompts))
    request = formatted(record.request, settings.prompt_format)
    return replace(record, request=request, probes=tuple(probes), free_text=free_text)


def formatted(asked: Asked, prompt_format: str) -> Asked:
    """The same with ``prompt_format`` around its prompt. A passage without a prompt asks nothing and stays as it is."""
    return replace(asked, prompt=in_format(prompt_format, asked.prompt)) if asked.prompt else asked


def in_format(prompt_format: str, prompt: str) -> str:
    """The prompt with ``prompt_format`` around it."""
    return prompt_format.replace("{}", prompt, 1)


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


PLAIN: tuple[Schema[Settings], ...] = (Schema("plain text", ("text",), _plain),)

ACCURATE: tuple[Schema[Settings], ...] = (Schema("accurate sentences, SCEN", ("text", "labels"), _accurate),)

QUESTIONS: tuple[Schema[Settings], ...] = tuple(
    Schema(f"questions with {prompt} and {answer}", (prompt, answer), _question(prompt, answer))
    for prompt, answer in (("prompt", "target"), ("question", "answer"), ("src", "answers"), ("text", "labels"))
)

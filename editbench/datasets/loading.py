"""From a path to a record set: rows, parsed; texts beside them; and the fingerprint of it all."""

from __future__ import annotations

import hashlib
import json
from types import MappingProxyType
from typing import TYPE_CHECKING

from editbench.datasets.posing import formatted, pose
from editbench.datasets.reading import read_rows, read_texts
from editbench.datasets.rows import make_row
from editbench.datasets.schema import Harvest, S, Settings, harvest
from editbench.datasets.texts import ACCURATE, PLAIN, QUESTIONS
from editbench.records import RecordError, RecordSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from editbench.datasets.rows import Row, RowError
    from editbench.datasets.schema import Dataset
    from editbench.records import EditRecord, Passage, Probe, SkippedRecord

POCKET = "pocket"
"""The path that stands for the embedded world."""


def load_dataset(dataset: Dataset[S], path: str | Path, settings: S, *, on_error: str, limit: int | None) -> RecordSet:
    """Load one dataset; :func:`editbench.datasets.load` says how.

    Raises:
        RecordError: If a record, or a file, cannot be used.
        ValueError: If the embedded world is asked for a dataset that it does not have.
    """
    in_pocket = str(path) == POCKET
    if in_pocket and not dataset.in_pocket:
        raise ValueError(f"the embedded world has no {dataset.name} records; give the path of a file")
    rows = _pocket_rows(dataset.name, settings.pocket_seed) if in_pocket else read_rows(path)
    main = harvest(rows, dataset.schemas, settings, on_error, limit)
    _refuse_empty(path, "record", len(main.records), main)
    texts = {"accurate": tuple(main.passages)} if main.passages else {}
    skipped = list(main.skipped)

    sources = _pocket_texts(settings.pocket_seed) if in_pocket else {}
    for kind in ("accurate", "plain"):
        given = getattr(settings, f"{kind}_path", None)
        if given is not None:
            sources[kind] = given, read_texts(given)
    for kind, (source, text_rows) in sources.items():
        found = harvest(text_rows, ACCURATE if kind == "accurate" else PLAIN, Settings(), on_error)
        _refuse_empty(source, "text", len(found.passages), found)
        texts[kind] = tuple(found.passages)
        skipped += found.skipped

    texts = {name: tuple(formatted(one, settings.prompt_format) for one in several) for name, several in texts.items()}
    records = tuple(pose(record, settings) for record in main.records)
    unrelated, prompt_format = _unrelated(settings, on_error, skipped), settings.prompt_format
    digest = fingerprint(records, texts, unrelated)
    return RecordSet(dataset.name, records, MappingProxyType(texts), tuple(skipped), digest, unrelated, prompt_format)


def _unrelated(settings: Settings, on_error: str, skipped: list[SkippedRecord]) -> tuple[Probe, ...]:
    """The questions of no record; rows that cannot be used go to ``skipped``."""
    source = settings.unrelated_path
    if source is None:
        return ()
    rows = _pocket_rows("unrelated", settings.pocket_seed) if source == POCKET else read_rows(source)
    found = harvest(rows, QUESTIONS, Settings(), on_error)
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
        if record.essay is not None:
            digest.update(_line(["essay", list(record.essay.prompts), list(record.essay.references)]))
    for name in sorted(texts):
        for passage in texts[name]:
            digest.update(_line(["text", name, passage.prompt, passage.text]))
    for probe in unrelated:
        digest.update(_line(["unrelated", probe.prompt, probe.target]))
    return digest.hexdigest()


def _line(value: list[object]) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def _refuse_empty(path: str | Path, what: str, count: int, found: Harvest) -> None:
    if count:
        return
    if not found.skipped:
        raise RecordError(f"{path}: there is no {what} in it; give another file")
    first = found.skipped[0]
    raise RecordError(
        f"{path}: no {what} is left, {len(found.skipped)} were skipped; the first at {first.where}: {first.reason}"
    )


def _pocket_rows(name: str, seed: int) -> Iterator[Row | RowError]:
    from editbench.pocket import raw

    for index, fields in enumerate(getattr(raw, name)(seed)):
        yield make_row(f"{POCKET}:{name}:{index + 1}", index, fields)


def _pocket_texts(seed: int) -> dict[str, tuple[str | Path, Iterator[Row | RowError]]]:
    """The embedded world's accurate sentences, and the part of its plain text that no model was trained on."""
    from editbench.pocket import raw

    plain = ({"text": text} for text in raw.heldout_text(seed))
    return {
        "accurate": (POCKET, _pocket_rows("accurate", seed)),
        "plain": (POCKET, (make_row(f"{POCKET}:heldout_text:{i + 1}", i, fields) for i, fields in enumerate(plain))),
    }

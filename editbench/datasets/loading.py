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
    rows = _rows(dataset.name, path, settings.pocket_seed)
    main = parse_rows(rows, dataset.layouts, settings, on_error, limit)
    _refuse_empty(path, "record", main.records, main)

    texts = {"accurate": tuple(main.passages)} if main.passages else {}
    unrelated: tuple[Probe, ...] = ()
    skipped = main.skipped
    for name, layouts in BESIDE.items():
        given = getattr(settings, f"{name}_path", None)
        if given is None and in_pocket and name != "unrelated":
            given = POCKET
        if given is None:
            continue
        parsed = parse_rows(_rows(name, given, settings.pocket_seed), layouts, Settings(), on_error)
        skipped += parsed.skipped
        if name == "unrelated":
            _refuse_empty(given, "question", parsed.probes, parsed)
            unrelated = tuple(parsed.probes)
        else:
            _refuse_empty(given, "text", parsed.passages, parsed)
            texts[name] = tuple(parsed.passages)

    prompt_format = PromptFormat.parse(settings.prompt_format)
    records = tuple(apply_format(record, prompt_format, settings.paraphrases) for record in main.records)
    texts = {name: tuple(formatted(passage, prompt_format) for passage in several) for name, several in texts.items()}
    unrelated = tuple(formatted(probe, prompt_format) for probe in unrelated)
    digest = fingerprint(records, texts, unrelated)
    return RecordSet(dataset.name, records, MappingProxyType(texts), tuple(skipped), digest, unrelated, prompt_format)


def _rows(name: str, path: str | Path, seed: int) -> Iterator[Row | RowError]:
    """Rows of a dataset, a text collection or the unrelated questions, from a file or the embedded world."""
    if str(path) != POCKET:
        return read_texts(path) if name in ("accurate", "plain") else read_rows(path)
    from editbench.pocket.dataset_files import ROWS

    if name not in ROWS:
        raise ValueError(f"the embedded world has no {name} records; give the path of a file")
    return (make_row(f"{POCKET}:{name}:{i + 1}", i, fields) for i, fields in enumerate(ROWS[name](seed)))


def load_texts(path: str | Path) -> list[str]:
    """Plain texts: rows with a field ``text`` (JSON, JSON Lines, a folder or the hub), or the lines of a ``.txt``."""
    return [passage.text for passage in parse_rows(read_texts(path), PLAIN, Settings(), "raise").passages]


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

QUESTIONS: tuple[Layout[Settings], ...] = tuple(
    Layout(f"questions with {prompt} and {answer}", (prompt, answer), _question(prompt, answer))
    for prompt, answer in (("prompt", "target"), ("question", "answer"), ("src", "answers"), ("text", "labels"))
)

BESIDE = {
    "accurate": (Layout[Settings]("accurate sentences, SCEN", ("text", "labels"), _accurate),),
    "plain": PLAIN,
    "unrelated": QUESTIONS,
}
"""Layouts of the files beside a dataset's records, by the name before ``_path`` in the settings."""

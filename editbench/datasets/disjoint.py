"""Checks that no record, prompt or text serves two ends: to tune settings or teach a method, and to test it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping

from editbench.files import canonical
from editbench.records import EditRecord, EditRequest, PromptFormat, RecordSet
from editbench.words import folded

DIGITS = 16  # hex digits of a record's hash
Texts = Mapping[str, str]  # from a folded text to its place ("the perplexity text plain[3]")


class CrossingError(ValueError):
    """A record, prompt or text serves two ends; the message names it."""


def record_hash(request: EditRequest, prompt_format: PromptFormat) -> str:
    """Hash of what a record edits: its subject and its prompt, however they are spelt, whatever the new answer."""
    fact = [folded(request.subject or ""), folded(prompt_format.plain(request.prompt))]
    return hashlib.sha256(canonical(fact)).hexdigest()[:DIGITS]


def record_hashes(records: Iterable[EditRecord], prompt_format: PromptFormat) -> list[str]:
    """Hashes of several records, sorted."""
    return sorted(record_hash(record.request, prompt_format) for record in records)


def tuned_on(records: Iterable[EditRecord], prompt_format: PromptFormat, tuned: Collection[str]) -> list[str]:
    """Ids of the records whose hashes are among ``tuned``, the hashes of records on which settings were tuned."""
    known = set(tuned)
    return [record.id for record in records if record_hash(record.request, prompt_format) in known]


def tested_prompts(record_set: RecordSet, edited: Iterable[EditRecord]) -> dict[str, str]:
    """All prompts that test a stream, folded and plain, each with its place."""
    plain, found = record_set.prompt_format.plain, {}
    for record in edited:
        for prompt in (record.request.prompt, *(probe.prompt for probe in record.probes)):
            found[folded(plain(prompt))] = f"a prompt of record {record.id!r}"
    return found | {folded(plain(probe.prompt)): "an unrelated question" for probe in record_set.unrelated}


def scored_texts(record_set: RecordSet) -> dict[str, str]:
    """The texts whose perplexity is measured, folded, each with its place."""
    return {
        folded(passage.text): f"the perplexity text {name}[{place}]"
        for name, several in record_set.texts.items()
        for place, passage in enumerate(several)
    }


def keep_apart(name: str, given: Iterable[str], tested: Texts) -> None:
    """A :class:`CrossingError` if a text of ``name`` ("model.texts", "method.negatives") is one of the tested texts."""
    for place, text in enumerate(given):
        if (other := tested.get(folded(text))) is not None:
            raise CrossingError(
                f"{name}[{place}], {text[:60]!r}, is {other} too: what a method learns from may not test it; "
                f"leave it out of one of the two"
            )

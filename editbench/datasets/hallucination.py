"""Hallucination (Manakul et al., 2023, arXiv:2303.08896): wrong sentences of GPT-3's biographies, to be corrected.

Layouts: WISE's records, and the annotated passages of ``potsawee/wiki_bio_gpt3_hallucination`` on the hub, from which
edits and accurate sentences are made as by GRACE (Hartvigsen et al., 2023, arXiv:2211.11031).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.datasets.base import Dataset, Item, Layout, Settings, edit_record
from editbench.datasets.requests import zip_answers
from editbench.records import Passage, SkippedRecord

if TYPE_CHECKING:
    from editbench.datasets.rows import Row

_LABELS = ("accurate", "minor_inaccurate", "major_inaccurate")
_NAME = re.compile(r"\S.{0,99}?(?=,| \(| (?:is|was|are|were)\b)")
_BOUNDARY = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\Wa-z])")
_NO_END = re.compile(
    r"(?:^|[\s(\"'])(?:[A-Z]|(?:\w\.)+\w|Mr|Mrs|Ms|Dr|Jr|Sr|St|Sgt|Lt|Col|Gen|Capt|Prof|Rev|Hon|Gov|Sen|Rep|No|vs)\.$"
)


@dataclass(frozen=True)
class HallucinationSettings(Settings):
    """Settings of Hallucination.

    Attributes:
        accurate_path: Accurate sentences in place of those of the hub's passages: rows with ``text`` (the passage
            before) and ``labels`` (the sentence).
    """

    accurate_path: str | None = None


def _wise(row: Row, settings: HallucinationSettings) -> Iterator[Item]:
    yield edit_record(
        row,
        prompt=row.text("prompt"),
        subject=row.text("subject"),
        target=row.text("target_new"),
        locality=zip_answers(row, "locality_prompt", "locality_ground_truth"),
    )


def _passage(row: Row, settings: HallucinationSettings) -> Iterator[Item]:
    """A passage for each accurate sentence, a record for each inaccurate one: its target is sentence i of Wikipedia."""
    written, labels = row.texts("gpt3_sentences"), row.texts("annotation")
    if len(labels) != len(written):
        raise row.error("annotation", f"has {len(labels)} labels for {len(written)} sentences")
    right = split_sentences(row.text("wiki_bio_text"))
    concept = row.text("concept").strip() if row.has("concept") else _opening_name(row, written)
    header = f"This is a Wikipedia passage about {concept}."
    for i, label in enumerate(labels):
        prompt = " ".join([header, *(sentence.strip() for sentence in written[:i])])
        if label not in _LABELS:
            raise row.error(f"annotation[{i}]", f"is {label!r}, none of {', '.join(_LABELS)}")
        if label == "accurate":
            yield Passage(prompt, written[i].strip())
        elif i < len(right):
            yield edit_record(row, id=f"{row.id}.{i}", prompt=prompt, subject=concept, target=right[i])
        else:
            reason = f"record '{row.id}.{i}': sentence {i} is inaccurate, but wiki_bio_text has only {len(right)}"
            yield SkippedRecord(row.where, reason)


def _opening_name(row: Row, sentences: list[str]) -> str:
    match = _NAME.match(sentences[0].strip()) if sentences else None
    if match is None:
        raise row.error("gpt3_sentences", "the first does not open with a name; add the field 'concept' to the record")
    return match.group()


def split_sentences(text: str) -> list[str]:
    """Sentences of English prose, cut after an end mark and before a capital or digit, not after initials or titles."""
    sentences, start = [], 0
    for boundary in _BOUNDARY.finditer(text):
        if not _NO_END.search(text[start : boundary.start()]):
            sentences.append(text[start : boundary.end()].strip())
            start = boundary.end()
    rest = text[start:].strip()
    return [*sentences, rest] if rest else sentences


HALLUCINATION = Dataset(
    name="hallucination",
    settings=HallucinationSettings,
    sentences=True,
    reserved=100,
    layouts=(
        Layout(
            "Hallucination, WISE",
            ("prompt", "target_new", "subject", "locality_prompt", "locality_ground_truth"),
            _wise,
        ),
        Layout(
            "Hallucination, hub",
            ("gpt3_sentences", "annotation", "wiki_bio_text"),
            _passage,
            optional=("concept",),
            unused=("wiki_bio_test_idx", "gpt3_text", "gpt3_text_samples"),
        ),
    ),
)

"""What is asked beside the records: ordinary text, sentences that were right, and questions of no record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from editbench.datasets.schema import Schema, Settings
from editbench.records import UNRELATED, Passage, Probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from editbench.datasets.rows import Row


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

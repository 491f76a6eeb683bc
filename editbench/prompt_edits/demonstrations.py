"""Demonstrations of in-context editing: edits of training records, each with a question and its right answer.

Zheng et al., "Can We Edit Factual Knowledge by In-Context Learning?", 2023, section 3: the question is the fact's own
prompt (copy), another wording of it (update), or one that the fact does not concern (retain), in the ratio 1 : 3 : 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from editbench.records import LOCALITY, PARAPHRASE, REWRITE, EditRecord, PromptFormat

KINDS = (LOCALITY, PARAPHRASE, LOCALITY, PARAPHRASE, LOCALITY, PARAPHRASE, LOCALITY, REWRITE)


@dataclass(frozen=True)
class Demonstration:
    """A training record's plain prompt, and its text before a prompt."""

    prompt: str
    text: str


def demonstrations(
    records: Sequence[EditRecord], prompt_format: PromptFormat, fact: Callable[[str, str], str], lead: str
) -> list[Demonstration]:
    """One of each record, in order, with the kinds of :data:`KINDS` in turn.

    A record without a question of its kind shows its own prompt. ``fact`` makes the text of a fact.
    """
    plain, made = prompt_format.plain, []
    for place, record in enumerate(records):
        prompt, target = plain(record.request.prompt), record.request.target
        question, answer = next(_questions(record, KINDS[place % len(KINDS)]), (record.request.prompt, target))
        made.append(Demonstration(prompt, f"{fact(prompt, target)}{lead}{plain(question)} {answer}\n\n"))
    return made


def _questions(record: EditRecord, kind: str) -> Iterator[tuple[str, str]]:
    for probe in record.probes:
        if probe.kind == kind and probe.target is not None:
            yield probe.prompt, probe.target

"""Training records as requests: what is edited, where the new answer should follow, and where answers should stay."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from editbench.files import canonical
from editbench.records import LOCALITY, PARAPHRASE, EditRecord, EditRequest


@dataclass(frozen=True)
class Example:
    """A training record.

    Attributes:
        request: The edit.
        rewrites: Questions with the new answer: paraphrases, or the edit's own prompt; an epoch has one of them.
        kept: Questions whose answers should stay, each with its answer.
    """

    request: EditRequest
    rewrites: tuple[EditRequest, ...]
    kept: tuple[EditRequest, ...]


def examples_of(records: Sequence[EditRecord], own_prompt: bool) -> list[Example]:
    """Examples of records; those without paraphrases, and all if ``own_prompt``, have their own prompt among them.

    With ``own_prompt`` each record's questions begin one further than the last one's, so that every epoch has of all.
    """
    found = []
    for number, record in enumerate(records):
        one = record.request
        asked = [probe.prompt for probe in record.probes if probe.kind == PARAPHRASE]
        asked = [one.prompt, *asked] if own_prompt or not asked else asked
        first = number % len(asked) if own_prompt else 0
        asked = [*asked[first:], *asked[:first]]
        rewrites = tuple(EditRequest(one.id, prompt, None, one.target) for prompt in asked)
        kept = tuple(
            EditRequest(one.id, probe.prompt, None, probe.target)
            for probe in record.probes
            if probe.kind == LOCALITY and probe.target
        )
        found.append(Example(one, rewrites, kept))
    return found


def digest_of(examples: Sequence[Example]) -> str:
    """Digest of all texts, in order."""
    texts = [
        [[r.prompt, r.target] for r in (example.request, *example.rewrites, *example.kept)] for example in examples
    ]
    return hashlib.blake2b(canonical(texts), digest_size=16).hexdigest()

"""How records are put to a model: the format around their prompts, and how many of their paraphrases are asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from editbench.records import PARAPHRASE, EditRecord, EditRequest, Probe

if TYPE_CHECKING:
    from editbench.datasets.schema import Settings

Asked = TypeVar("Asked", EditRequest, Probe)


def pose(record: EditRecord, settings: Settings) -> EditRecord:
    """The record with ``prompt_format`` around its prompt and those of its probes, and no more than ``paraphrases``."""
    probes, asked = [], 0
    for probe in record.probes:
        asked += probe.kind == PARAPHRASE
        if probe.kind != PARAPHRASE or settings.paraphrases is None or asked <= settings.paraphrases:
            probes.append(formatted(probe, settings.prompt_format))
    return replace(record, request=formatted(record.request, settings.prompt_format), probes=tuple(probes))


def formatted(asked: Asked, prompt_format: str) -> Asked:
    """The same with ``prompt_format`` around its prompt."""
    return replace(asked, prompt=prompt_format.replace("{}", asked.prompt, 1))

"""How records are put to a model: the format around their prompts, and how many of their paraphrases are asked.

This is the one place where a question gets its form. Methods are given requests that are posed already, and pose plain
prompts of their own through :attr:`editbench.editor.Materials.pose`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from editbench.records import PARAPHRASE, EditRecord, EditRequest, Passage, Probe

if TYPE_CHECKING:
    from editbench.datasets.schema import Settings

Asked = TypeVar("Asked", EditRequest, Probe, Passage)


def pose(record: EditRecord, settings: Settings) -> EditRecord:
    """The record as it is asked: ``prompt_format`` around every prompt of it, and no more than ``paraphrases``."""
    probes, asked = [], 0
    for probe in record.probes:
        asked += probe.kind == PARAPHRASE
        if probe.kind != PARAPHRASE or settings.paraphrases is None or asked <= settings.paraphrases:
            probes.append(formatted(probe, settings.prompt_format))
    essay = record.essay
    if essay is not None:
        essay = replace(essay, prompts=tuple(in_format(settings.prompt_format, p) for p in essay.prompts))
    request = formatted(record.request, settings.prompt_format)
    return replace(record, request=request, probes=tuple(probes), essay=essay)


def formatted(asked: Asked, prompt_format: str) -> Asked:
    """The same with ``prompt_format`` around its prompt. A passage without a prompt asks nothing and stays as it is."""
    return replace(asked, prompt=in_format(prompt_format, asked.prompt)) if asked.prompt else asked


def in_format(prompt_format: str, prompt: str) -> str:
    """The prompt with ``prompt_format`` around it."""
    return prompt_format.replace("{}", prompt, 1)

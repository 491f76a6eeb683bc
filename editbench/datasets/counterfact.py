"""CounterFact (Meng et al., 2022, arXiv:2202.05262), in the layouts of EasyEdit and of ROME and MEMIT.

Neighbours are locality probes; their answer is the old answer of the edit. Attribute prompts are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from editbench.datasets.base import Dataset, Item, Layout, Settings, edit_record
from editbench.datasets.requests import portability, zip_answers
from editbench.records import BRACES

if TYPE_CHECKING:
    from editbench.datasets.rows import Row


def _easyedit(row: Row, settings: Settings) -> Iterator[Item]:
    yield edit_record(
        row,
        prompt=row.text("prompt"),
        subject=row.text("subject"),
        target=row.right("target_new"),
        target_true=row.several("ground_truth"),
        paraphrases=row.several("rephrase_prompt"),
        locality=zip_answers(row, "locality_prompt", "locality_ground_truth"),
        follows=portability(row),
    )


def _rome(row: Row, settings: Settings) -> Iterator[Item]:
    rewrite = row.child("requested_rewrite")
    template, subject = rewrite.text("prompt"), rewrite.text("subject")
    if BRACES not in template:
        raise rewrite.error("prompt", f"has no {{}} where the subject goes: {template!r}")
    target_true = rewrite.child("target_true").text("str")
    yield edit_record(
        row,
        prompt=template,
        subject=subject,
        target=rewrite.child("target_new").text("str"),
        target_true=target_true,
        paraphrases=row.several("paraphrase_prompts"),
        locality=[(prompt, target_true) for prompt in row.several("neighborhood_prompts")],
        relation=rewrite.text("relation_id") if rewrite.has("relation_id") else None,
    )


COUNTERFACT = Dataset(
    name="counterfact",
    settings=Settings,
    reserved=1_000,
    layouts=(
        Layout(
            "CounterFact, EasyEdit",
            (
                *("prompt", "target_new", "subject", "ground_truth", "rephrase_prompt"),
                *("locality_prompt", "locality_ground_truth"),
            ),
            _easyedit,
            optional=("portability", "generation_prompts", "snippets", "subject_fact_prompts"),
        ),
        Layout(
            "CounterFact, ROME",
            ("requested_rewrite", "paraphrase_prompts", "neighborhood_prompts"),
            _rome,
            optional=("generation_prompts", "snippets", "subject_fact_prompts"),
            unused=("pararel_idx", "attribute_prompts", "requested_rewrite.*.id"),
        ),
    ),
)

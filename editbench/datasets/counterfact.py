"""CounterFact (Meng et al., 2022, arXiv:2202.05262), in the layouts of EasyEdit and of ROME and MEMIT.

Neighbours are locality probes; their answer is the old answer of the edit. Attribute prompts are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from editbench.datasets.base import Dataset, Item, Layout, Settings, edit_record

if TYPE_CHECKING:
    from editbench.datasets.files import Row


def _easyedit(row: Row, settings: Settings) -> Iterator[Item]:
    yield edit_record(
        row,
        prompt=row.text("prompt"),
        subject=row.text("subject"),
        target=row.text("target_new"),
        target_true=row.text("ground_truth"),
        paraphrases=[row.text("rephrase_prompt")],
        locality=[(row.text("locality_prompt"), row.label("locality_ground_truth"))],
    )


def _rome(row: Row, settings: Settings) -> Iterator[Item]:
    rewrite = row.child("requested_rewrite")
    template, subject = rewrite.text("prompt"), rewrite.text("subject")
    if "{}" not in template:
        raise rewrite.error("prompt", f"has no {{}} where the subject goes: {template!r}")
    target_true = rewrite.child("target_true").text("str")
    yield edit_record(
        row,
        prompt=template.replace("{}", subject, 1),
        subject=subject,
        target=rewrite.child("target_new").text("str"),
        target_true=target_true,
        paraphrases=row.texts("paraphrase_prompts"),
        locality=[(prompt, target_true) for prompt in row.texts("neighborhood_prompts")],
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
        ),
        Layout("CounterFact, ROME", ("requested_rewrite", "paraphrase_prompts", "neighborhood_prompts"), _rome),
    ),
)

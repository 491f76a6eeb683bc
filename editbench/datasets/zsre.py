"""ZsRE (Levy et al., 2017, arXiv:1706.04115), in the layouts of MEND and of SCEN.

Some of MEND's alternative answers are true; these records are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.checks import one_of
from editbench.datasets.base import Dataset, Item, Layout, Settings, edit_record
from editbench.datasets.requests import portability

if TYPE_CHECKING:
    from editbench.datasets.rows import Row

_NQ_PREFIX = "nq question: "


@dataclass(frozen=True)
class ZsRESettings(Settings):
    """Settings of ZsRE.

    Attributes:
        target: New answer of MEND's rows: "alt" (counterfactual; the old answer is then the first of ``answers``), or
            the first of "answers", for models that do not know it.
        nq_prefix: "strip" or "keep" the "nq question: " of the locality question.
    """

    target: str = "alt"
    nq_prefix: str = "strip"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(("alt", "answers"), target=self.target)
        one_of(("strip", "keep"), nq_prefix=self.nq_prefix)


def _mend(row: Row, settings: ZsRESettings) -> Iterator[Item]:
    answers = row.right("answers")
    counterfactual = settings.target == "alt"
    question = row.text("loc").strip() if row.filled("loc") else ""
    if settings.nq_prefix == "strip":
        question = question.removeprefix(_NQ_PREFIX)
    if not question.endswith("?"):
        question += "?"
    yield edit_record(
        row,
        prompt=row.text("src"),
        subject=row.text("subject"),
        target=row.right("alt") if counterfactual else answers[0],
        target_true=answers[0] if counterfactual else None,
        also_true=answers if counterfactual else (),
        paraphrases=row.several("rephrase"),
        locality=[(question, row.several("loc_ans"))] if row.filled("loc") else (),
        follows=portability(row) if counterfactual else (),
    )


def _scen(row: Row, settings: ZsRESettings) -> Iterator[Item]:
    """Questions without subject and locality question; the forget set has no rephrases either."""
    yield edit_record(row, prompt=row.text("Q"), target=row.text("A"), paraphrases=row.several("rephrases"))


ZSRE = Dataset(
    name="zsre",
    settings=ZsRESettings,
    reserved=100,
    layouts=(
        Layout(
            "ZsRE, MEND",
            ("subject", "src", "rephrase", "alt", "answers", "loc", "loc_ans"),
            _mend,
            optional=("portability", "subject_fact_prompts"),
            unused=("pred", "cond"),
        ),
        Layout("ZsRE, SCEN", ("Q", "A"), _scen, optional=("rephrases",), unused=("history_indexs",)),
    ),
)

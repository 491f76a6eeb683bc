"""Questions of a record and their targets."""

import torch

from editbench.evaluation.questions import questions
from editbench.model.likelihood import Query
from editbench.records import (
    LOCALITY,
    PARAPHRASE,
    REWRITE,
    SUBJECT_FACT,
    EditRecord,
    EditRequest,
)
from tests.evaluation.examples import RECORDS

torch.set_num_threads(1)


def test_which_answer_is_right():
    found = [(q.probe.kind, q.target, q.alternative, q.labelled) for q in questions(RECORDS[0])]
    assert found == [
        (REWRITE, "English", "French", True),
        (PARAPHRASE, "English", "French", True),
        (PARAPHRASE, "English", "French", True),
        (LOCALITY, "French", "English", True),
        (LOCALITY, "Apple", None, True),
        (LOCALITY, "English", None, False),
        (SUBJECT_FACT, "Paris", None, True),
    ]
    bare = EditRecord(EditRequest("x", "Paris is in", None, "Spain"))
    assert [q.query for q in questions(bare)] == [Query("Paris is in", ("Spain",))]

"""Questions of a record and their targets; what is put to the model, and what is no number."""

import math

import pytest
import torch
from tokenizers.normalizers import Lowercase

from editbench.evaluation import questions as questions_module
from editbench.evaluation.evaluator import Evaluator
from editbench.evaluation.questions import Question, best_spelling, questions
from editbench.model.generation import Generation
from editbench.model.likelihood import Query, TargetScore, score_targets
from editbench.records import (
    CHAIN,
    LOCALITY,
    PARAPHRASE,
    REASONING,
    REWRITE,
    SUBJECT_FACT,
    EditRecord,
    EditRequest,
    Probe,
    Route,
)
from editbench.stream import Stream
from tests.evaluation.examples import RECORDS, unedited_of
from tests.tiny_models import tiny_lm, word_tokenizer

STAMP = {"stage": "final", "edits": 2, "batch": 1}


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


def test_a_target_that_does_not_fit_gives_no_number():
    evaluator = Evaluator(tiny_lm("gpt2"), generation=Generation(max_new_tokens=1))
    found = evaluator.score([(RECORDS[1], 0)], **STAMP)[0]["scores"]
    assert "rewrite.generation" not in found and "rewrite.generation_contains" not in found


def test_nothing_is_generated_unless_a_metric_needs_it(monkeypatch):
    monkeypatch.setattr(questions_module, "generate_answers", lambda *a, **k: pytest.fail("not asked for"))
    (row,) = Evaluator(tiny_lm("gpt2"), metrics=["exact_match"]).score([(RECORDS[0], 0)], **STAMP)
    assert "generated" not in row["probes"][0]


def test_a_contrast_of_answers_that_the_tokenizer_does_not_tell_apart_is_no_number():
    lm = tiny_lm("llama")
    lm.tokenizer = word_tokenizer("x", "york", "is", "the")
    lm.tokenizer.backend_tokenizer.normalizer = Lowercase()
    alike = EditRecord(EditRequest("u", "The York is", None, "York", "YORK"))
    assert lm.continuation("York") == lm.continuation("YORK")
    (row,) = Evaluator(lm, metrics=["nll_contrast", "exact_match"]).score([(alike, 0)], **STAMP)
    assert set(row["scores"]) == {"rewrite.exact_match"}


def test_everything_goes_through_the_model_together(monkeypatch):
    calls = []
    monkeypatch.setattr(questions_module, "score_targets", lambda *a, **k: calls.append(k) or score_targets(*a, **k))
    seen = lambda self, prompts: [Route(RECORDS[0].id, 0.75)] * len(prompts)  # noqa: E731
    parts = {
        "answers_by_row": True,
        "answering": lambda self, columns: torch.no_grad(),
        "route": seen,
        "asked": staticmethod(str),
    }
    editor = object.__new__(type("Editor", (), parts))
    evaluator = Evaluator(tiny_lm("gpt2"), tokens_per_batch=100)
    row, *others = evaluator.score([(r, 0) for r in RECORDS], **STAMP, editor=editor)
    assert [(k["editor"], k["tokens_per_batch"]) for k in calls] == [(editor, 100)]
    assert row["scores"]["rewrite.activation"] == 0.75 and row["scores"]["rewrite.routing"] == 1.0
    assert all(other["scores"]["rewrite.routing"] == 0.0 for other in others)
    assert {
        row["scores"][f"{kind}.routing"] for kind in (LOCALITY, SUBJECT_FACT) if f"{kind}.routing" in row["scores"]
    } <= {0.0}
    assert row["probes"][0]["answered_by"] == RECORDS[0].id


def test_what_follows_from_an_edit_has_answers_of_its_own_and_any_spelling_is_right():
    request = EditRequest("x", "The twin of Lyon is", "Lyon", "Rome", "Bonn")
    probes = (
        Probe(REASONING, "The country of Lyon's twin is", "Italy", ("Italia",)),
        Probe(CHAIN, "Rome is", "a city"),
    )
    asked = list(questions(EditRecord(request, probes, also=("Roma",))))
    assert [one.query.targets for one in asked] == [("Rome", "Roma", "Bonn"), ("Italy", "Italia"), ("a city",)]
    assert not any(one.stays for one in asked) and asked[0].longest == "Rome"


def test_as_many_tokens_may_be_generated_as_the_spelling_of_most_tokens_needs():
    """Not that of most characters: a short name in an unknown script has a token for each byte."""
    lm, long, short = tiny_lm("llama"), "English French", "北京市海"
    question = Question(Probe(REWRITE, "The capital is", long), long, also=(short,))
    lengths = [len(lm.continuation(text, lm.spaced("The capital is"))) for text in (long, short)]
    assert len(long) > len(short) and lengths[0] < lengths[1]
    assert question.longest == long and question.most_tokens(lm) == short
    assert Question(question.probe, long).most_tokens(lm) == long


def test_the_spelling_that_the_model_gives_counts(monkeypatch):
    """Of the rewrite, and of a question whose answer should stay: the unedited answer is of that spelling too."""
    lm, request = tiny_lm("llama"), EditRequest("x", "The twin of Lyon is", "Lyon", "Birmingham")
    probes = (Probe(LOCALITY, "The twin of Lyon is now", "Birmingham", ("Rome",)),)
    record = EditRecord(request, probes, also=("Rome",))
    evaluator = Evaluator(lm, unedited=unedited_of(lm, records=[record]), metrics=["exact_match", "agreement"])

    def score(text):
        size = len(lm.continuation(text))
        return TargetScore(1.0, (text == "Rome",) * size, (5,) * size)

    def answers(lm, queries, **options):
        return [[score(text) for text in query.targets] for query in queries]

    monkeypatch.setattr(questions_module, "score_targets", answers)
    (row,) = evaluator.score([(record, 0)], **STAMP)
    assert row["scores"]["rewrite.exact_match"] == row["scores"]["locality.exact_match"] == 1
    assert [probe["target"] for probe in row["probes"]] == ["Rome", "Rome"]


def test_the_best_spelling():
    score = lambda nll, *correct: TargetScore(nll, correct, (0,) * len(correct))  # noqa: E731
    assert best_spelling([score(0.1, True, False), score(9.0, True)]) == 1
    assert best_spelling([score(3.0, False), score(2.0, False)]) == 1
    assert best_spelling([score(math.nan, False), score(2.0, False)]) == 1


@pytest.mark.parametrize(("prompt", "said"), [("The river of Lyon is", True), ("The river of Rome is", False)])
def test_locality_about_own_subjects_is_said(prompt, said, caplog):
    record = EditRecord(EditRequest("x", "The twin of Lyon is", "Lyon", "Rome"), (Probe(LOCALITY, prompt, "Po"),))
    other = EditRecord(EditRequest("y", "The twin of Oslo is", "Oslo", "Rome"))
    questions_module.check_questions({"locality": "locality.agreement"}, Stream((record, other), 1, (), ""))
    assert said == ("there will be no locality, and no score; such questions are subject_facts" in caplog.text)


def test_a_headline_that_compares_with_an_old_answer_needs_one():
    def stream(true):
        return Stream(
            (EditRecord(EditRequest("x", "The twin of Lyon is", "Lyon", "Rome", target_true=true)),), 1, (), ""
        )

    headline = {"reliability": "rewrite.nll_contrast"}
    questions_module.check_questions(headline, stream("Bonn"))
    with pytest.raises(ValueError, match="compares with the old answer, and no record has one"):
        questions_module.check_questions(headline, stream(None))

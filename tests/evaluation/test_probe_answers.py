"""Answers to a probe as metrics see them."""

import math

from editbench.evaluation.probe_answers import ProbeAnswers
from editbench.model.generation import Generated
from editbench.model.likelihood import TargetScore

TARGET = TargetScore(1.0, (True,), (3,))


def test_the_spelling_that_fits_best_counts():
    answers = ProbeAnswers(TARGET, gold="Rome", also=("Roma",), generated=Generated("Roma"))
    assert answers.compared(lambda text, gold: float(text == gold)) == 1.0


def test_without_text_or_right_answer_there_is_no_comparison():
    assert ProbeAnswers(TARGET, gold="Rome").compared(lambda *_: 1.0) is None
    assert ProbeAnswers(TARGET, generated=Generated("Rome")).compared(lambda *_: 1.0) is None


def test_answers_without_numbers_are_wrong_and_known_as_such():
    broken = ProbeAnswers(TARGET, gold="Rome", generated=Generated("Rome", finite=False))
    assert broken.compared(lambda *_: 1.0) == 0.0 and not broken.finite
    assert not ProbeAnswers(TargetScore(math.nan, (False,), (-1,))).finite
    assert ProbeAnswers(TARGET, alternative=TargetScore(2.0, (False,), (4,))).contrast == (1.0, 2.0)

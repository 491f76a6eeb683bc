"""Verdicts: each asked for once, kept by content, and what a run says of them."""

import json

import pytest

from editbench.costs import CachedCosts
from editbench.evaluation.judge.prompt import Verdict
from editbench.evaluation.judge.verdicts import Judge, open_judge
from editbench.evaluation.questions import Question
from editbench.model.generation import Generated
from editbench.protocol_parts import JudgeConfig
from editbench.records import PARAPHRASE, Probe, PromptFormat


class Known:
    """Answers as a dictionary says, by a word of the prompt; keeps what it was asked."""

    def __init__(self, identity="one", fails_after=None):
        self.identity, self.asked, self.fails_after = [identity], [], fails_after

    def replies(self, prompts):
        for at, prompt in enumerate(prompts):
            if len(self.asked) == self.fails_after:
                raise OSError("gone")
            self.asked.append(prompt)
            yield at, "no" if "Rome" in prompt else "maybe" if "Lyon" in prompt else "yes"


def question(prompt="Where is X?", **options):
    return Question(Probe(PARAPHRASE, prompt, "Paris"), "Paris", **options)


ANSWERS = [(question(), Generated("in Paris")), (question(), Generated("Rome.")), (question(), Generated("Lyon"))]
EXPECTED = [Verdict(True, "yes"), Verdict(False, "no"), Verdict(None, "maybe")]


def test_each_question_is_asked_once():
    known = Known()
    judge = Judge(known, None, CachedCosts())
    assert judge.verdicts([*ANSWERS, ANSWERS[0]]) == [*EXPECTED, EXPECTED[0]]
    assert judge.verdicts(ANSWERS) == EXPECTED
    assert len(known.asked) == 3


def test_what_has_no_right_answer_or_no_text_is_not_asked():
    known = Known()
    judge = Judge(known, None, CachedCosts())
    unlabelled = (question(labelled=False), Generated("Paris"))
    assert judge.verdicts([unlabelled, (question(), None)]) == [None, None]
    assert judge.verdicts([(question(), Generated("")), (question(), Generated("Paris", finite=False))]) == [
        Verdict(False),
        Verdict(False),
    ]
    assert known.asked == []


def test_the_judge_sees_the_plain_question_every_spelling_and_the_answer_alone():
    known, form = Known(), PromptFormat("[INST]", "[/INST]")
    asked = question("[INST]Where is X?[/INST]", also=("Paris, France",))
    Judge(known, None, CachedCosts(), form.plain).verdicts([(asked, Generated("Paris, in France. It is nice there"))])
    (prompt,) = known.asked
    assert "text: Where is X?\nRight answer: Paris or Paris, France\nAnswer of the model: Paris, in France.\n" in prompt


def test_verdicts_are_kept_with_seconds_and_digests(tmp_path):
    first, second, costs = Known(), Known(), CachedCosts()
    Judge(first, tmp_path, costs).verdicts(ANSWERS)
    assert costs.computed["verdicts"] > 0
    sealed, costs = dict(costs.digests), CachedCosts()
    assert Judge(second, tmp_path, costs).verdicts(ANSWERS) == EXPECTED
    assert second.asked == [] and costs.digests == sealed and len(sealed) == 3
    assert costs.read["verdicts"] > 0 and not costs.computed
    file = tmp_path / next(iter(sealed))
    assert json.loads(file.read_text())["content"]["reply"] == "yes"
    other = Known("another")
    Judge(other, tmp_path, CachedCosts()).verdicts(ANSWERS)
    assert len(other.asked) == 3


@pytest.mark.parametrize("damage", [lambda t: t.replace("yes", "no"), lambda t: t[:40], lambda t: "[]"])
def test_a_damaged_verdict_is_asked_for_again(tmp_path, damage):
    Judge(Known(), tmp_path, CachedCosts()).verdicts(ANSWERS[:1])
    (file,) = tmp_path.rglob("*.json")
    whole = file.read_text()
    file.write_text(damage(whole))
    known = Known()
    with pytest.warns(UserWarning, match="is damaged .*; the judge is asked again"):
        assert Judge(known, tmp_path, CachedCosts()).verdicts(ANSWERS[:1]) == EXPECTED[:1]
    assert len(known.asked) == 1
    assert json.loads(file.read_text())["content"]["reply"] == "yes"


def test_after_a_failure_only_the_rest_is_asked_for(tmp_path):
    with pytest.raises(OSError, match="gone"):
        Judge(Known(fails_after=2), tmp_path, CachedCosts()).verdicts(ANSWERS)
    rest = Known()
    assert Judge(rest, tmp_path, CachedCosts()).verdicts(ANSWERS) == EXPECTED
    assert len(rest.asked) == 1


def test_without_a_model_there_is_no_judge(tmp_path):
    assert open_judge(JudgeConfig(), tmp_path, CachedCosts(), str) is None

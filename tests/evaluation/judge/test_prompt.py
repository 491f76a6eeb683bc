"""The judge's prompt and the reading of its reply."""

from pathlib import Path

import pytest

from editbench.evaluation.judge.prompt import PROMPT, VERSION, Verdict, judge_prompt

PAGE = Path(__file__).parents[3] / "docs/judge.md"


def test_the_prompt_has_question_answers_and_answer_as_they_are():
    text = judge_prompt(" Where is {X}?\n", ("Paris", "Paris, France"), "in {right}")
    assert (
        "Question or text: Where is {X}?\nRight answer: Paris or Paris, France\nAnswer of the model: in {right}\n"
        in text
    )


def test_the_docs_show_the_prompt_of_this_version():
    page = PAGE.read_text(encoding="utf-8")
    assert f"```text\n{PROMPT}\n```" in page
    assert f"version {VERSION}" in page


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("yes", True),
        ("No.", False),
        (" **Yes**, it is the same city.", True),
        ("`no`", False),
        ("YES\n", True),
        ("<think>Yes? It says no. </think>\n\nno", False),
        ("yes and no", None),
        ("No, or rather yes", None),
        ("I would say yes", None),  # not its first word
        ("yesterday", None),
        ("not quite", None),
        ("", None),
        ("42", None),
        ("是", None),
        ("<think>yes, I", None),
    ],
)
def test_a_reply_that_is_neither_yes_nor_no_is_no_verdict(reply, right):
    assert Verdict.of(reply) == Verdict(right, reply)

"""Irrelevant prompts: given ones, training records' or texts', drawn by seed and edit."""

import re

import pytest

from editbench import Resources, make_editor
from editbench.memory_based.irrelevant import IrrelevantConfig, IrrelevantPrompts
from editbench.records import EditRecord, PromptFormat
from tests.small_runs import REQUESTS
from tests.tiny_models import LINES, tiny_lm

GIVEN = ["Google works", "Marcel Maupoil lives in"]


def prompts(lm, resources=None, **settings):
    return IrrelevantPrompts(lm, resources or Resources(), IrrelevantConfig(**settings))


def test_given_prompts_are_asked_in_the_format():
    lm = tiny_lm()
    found = prompts(lm, Resources(prompt_format=PromptFormat.parse("[{}]")), irrelevant=GIVEN)
    assert found.all == [lm.encode(f"[{prompt}]").ids for prompt in GIVEN]


def test_prompts_of_training_records():
    lm = tiny_lm()
    records = [EditRecord(request, ()) for request in REQUESTS]
    found = prompts(lm, Resources(load_training_records=lambda: records), irrelevant_from="training")
    assert found.all == [lm.encode(request.prompt).ids for request in REQUESTS]


def test_beginnings_of_texts():
    lm = tiny_lm()
    found = prompts(lm, Resources(texts=LINES), irrelevant_tokens=3)
    assert found.all == [lm.encode(line).ids[:3] for line in LINES]
    asked = prompts(lm, Resources(texts=LINES, prompt_format=PromptFormat.parse("[{}]")), irrelevant_tokens=3)
    beginnings = [line[: lm.encode(line).offsets[2][1]] for line in LINES]
    assert asked.all == [lm.encode(f"[{beginning}]").ids for beginning in beginnings] and beginnings[0] in LINES[0]


def test_drawn_by_seed_and_edit():
    lm = tiny_lm()
    one, two = (prompts(lm, Resources(texts=LINES, seed=seed)) for seed in (0, 1))
    assert one.drawn("a", 8) == one.drawn("a", 8) and one.drawn("a", 8)[:1] == one.drawn("a")
    assert one.drawn("a", 8) != one.drawn("b", 8) and one.drawn("a", 8) != two.drawn("a", 8)


@pytest.mark.parametrize(("source", "where"), [("texts", "model.texts"), ("training", "the split train")])
def test_none_at_all(source, where):
    resources = Resources(load_training_records=lambda: ())
    with pytest.raises(ValueError, match=f"{where} has none: give method.irrelevant"):
        prompts(tiny_lm(), resources, irrelevant_from=source).drawn("a")
    with pytest.raises(ValueError, match="irrelevant_from"):
        IrrelevantConfig(irrelevant_from="nowhere")


@pytest.mark.parametrize(
    ("method", "setting"), [("wise", "irrelevant"), ("defer", "irrelevant"), ("scen", "negatives")]
)
def test_a_prompt_without_a_text_is_refused(method, setting):
    for empty in ("", " ", "\u200b"):
        with pytest.raises(ValueError, match=f"^{setting} has {re.escape(repr(empty))} at 1; give each prompt a text"):
            make_editor(method, tiny_lm(), layer=1, **{setting: ["Rivers", empty]})

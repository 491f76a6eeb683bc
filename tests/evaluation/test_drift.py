"""How far a model has moved, by hand and against a plain way."""

import math
from contextlib import contextmanager

import pytest
import torch

from editbench.evaluation.drift import TEXTS, TOKENS, change_and_norm, last_hidden, mean_change
from editbench.evaluation.evaluator import Evaluator
from editbench.records import Passage
from tests.evaluation.examples import PromptEditor
from tests.tiny_models import LINES, tiny_lm

PLAIN = tuple(Passage("", line) for line in LINES)


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma3"])
def test_hidden_states_are_those_of_one_text_at_a_time(architecture, bos):
    lm = tiny_lm(architecture, "float64", bos=bos)
    passages = (*PLAIN, Passage("", LINES[0] * 9))
    for passage, found in zip(passages, last_hidden(lm, passages), strict=True):
        ids = torch.tensor([lm.encode(passage.text).ids[:TOKENS]])
        assert torch.allclose(found, lm.decoder(input_ids=ids).last_hidden_state[0, -1])


def test_an_editor_chooses_at_the_end_of_the_first_half():
    """The rows of texts that are one token or more, and what stands in the column that the editor is given."""
    lm, given = tiny_lm("llama", bos=True), []

    class Recorder:
        asked = staticmethod(str)

        answers_by_row = True

        @contextmanager
        def answering(self, last_prompt_columns):
            handle = lm.decoder.register_forward_pre_hook(
                lambda module, args, kwargs: given.extend(zip(last_prompt_columns, kwargs["input_ids"], strict=True)),
                with_kwargs=True,
            )
            yield
            handle.remove()

    passages = (*PLAIN, Passage("", LINES[0] * 9))
    last_hidden(lm, passages, Recorder())
    texts = [lm.encode(passage.text).ids[:TOKENS] for passage in passages]
    wanted = sorted((len(ids) - 1) // 2 for ids in texts)  # BOS stands before the first half
    assert sorted(column for column, _ in given) == wanted and max(wanted) == (TOKENS - 1) // 2


def test_a_change_by_hand():
    before = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float64)
    now = torch.tensor([[3.0, 5.0], [2.0, 2.0]], dtype=torch.float64)
    assert mean_change(now, before) == pytest.approx((1 / 5 + 2 / 2) / 2)
    assert math.isnan(mean_change(now * math.nan, before))
    weight, delta = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, -4.0]], dtype=torch.float64)
    assert change_and_norm(weight, delta) == (4.0, 5.0)  # it was [3, 4]


def test_an_evaluator_remembers_the_unedited_model():
    lm = tiny_lm("gpt2")
    evaluator = Evaluator(lm, texts={"plain": PLAIN})
    assert evaluator.hidden_change() is None
    evaluator.remember_hidden()
    assert evaluator.hidden_change() == 0.0
    lm.mlp_out(2).weight.data.mul_(-1)
    assert evaluator.hidden_change() > 0.01
    without = Evaluator(lm)
    without.remember_hidden()
    assert without.hidden_change() is None


def test_only_so_many_texts():
    lm = tiny_lm("gpt2")
    assert len(last_hidden(lm, [Passage("", f"Paris {i}") for i in range(TEXTS + 5)])) == TEXTS
    assert len(last_hidden(lm, [Passage("", "")])) == 0


@pytest.mark.parametrize("bos", [False, True])
def test_states_are_those_of_the_texts_own_last_tokens_behind_the_editors_text(bos):
    lm, editor = tiny_lm("gpt2", "float64", bos=bos), PromptEditor()
    passages = (*PLAIN, PLAIN[0], Passage("", LINES[0] * 30))
    found = last_hidden(lm, passages, editor)
    assert found.shape == last_hidden(lm, passages).shape
    front = lm.encode(editor.FRONT).ids
    for text, state in zip([*LINES, LINES[0] * 30], found, strict=True):
        ids = [*front, *lm.encode(text).ids[:TOKENS][bos:]]
        assert torch.allclose(state, lm.decoder(input_ids=torch.tensor([ids])).last_hidden_state[0, -1])

"""Answers that go on where scored rows leave them, against generation from the prompts."""

import pytest

from editbench.model import going_on as module
from editbench.model.generation import Generation, before_end, generate_answers
from editbench.model.going_on import GoingOn
from editbench.model.likelihood import Query, score_pairs, score_targets
from editbench.model.packed_targets import Pair
from tests.evaluation.examples import Bystander, PromptEditor
from tests.model.test_generation import PROMPTS
from tests.oracles import evaluation as oracle
from tests.small_runs import architectures
from tests.tiny_models import POSITIONS, TINY_ARCHITECTURES, tiny_lm

GREEDY = Generation()
LIMIT = 7


def said(lm, prompt):
    """Ids of the prompt, and what the model says behind it."""
    return tuple(lm.encode(prompt).ids), tuple(oracle.generate(lm, prompt, LIMIT))


def scored_targets(new, place):
    """Targets that the model says, begins to say, and does not say, two of them by place."""
    other = [(token + 1) % 300 for token in new]
    kinds = [new[:3], (*new[:2], *other[2:4]), (other[0], *new[1:3]), new[:1], (*new, other[0])]
    return [kinds[place % 5], kinds[(place + 1) % 5]]


@pytest.mark.parametrize("architecture", architectures(TINY_ARCHITECTURES))
def test_answers_are_those_of_prompts_that_run_alone(architecture):
    lm = tiny_lm(architecture, "float32" if architecture.startswith("gemma") else "float64", bos=True)
    wanted = dict(said(lm, prompt) for prompt in dict.fromkeys(PROMPTS))
    pairs = [Pair(ids, target) for i, (ids, new) in enumerate(wanted.items()) for target in scored_targets(new, i)]
    if not lm.runs_trees:
        assert GoingOn.of(lm, [(PROMPTS[0], "Rome")], GREEDY) is None
        return
    for tokens in (None, 1):  # all together; a tree for each row, and each goes on alone
        going_on = GoingOn(lm, dict.fromkeys(wanted, LIMIT), tokens)
        scores = score_pairs(lm, pairs, tokens_per_batch=tokens, going_on=going_on)
        assert scores == score_pairs(lm, pairs, tokens_per_batch=tokens)
        assert going_on.found == {(ids, LIMIT): before_end(list(new), lm.end_ids) for ids, new in wanted.items()}


def test_no_more_is_run_than_an_answer_needs(monkeypatch):
    lm, steps, own = tiny_lm("llama", "float64"), [], module.step_by_step
    monkeypatch.setattr(module, "step_by_step", lambda *a: steps.append(own(*a)) or steps[-1])
    ids, new = said(lm, PROMPTS[0])
    score_pairs(lm, [Pair(ids, new[:3])], going_on=GoingOn(lm, {ids: LIMIT}))
    assert [found.shape for found in steps] == [(1, LIMIT - 3)]


def test_an_answer_ends_at_its_limit_and_at_an_end_token_of_its_beginning(monkeypatch):
    lm = tiny_lm("gpt2", "float64")
    ids, new = said(lm, PROMPTS[0])
    monkeypatch.setattr(module, "step_by_step", lambda *a: pytest.fail("the answer has ended"))

    def found(limit):
        going_on = GoingOn(lm, {ids: limit})
        score_pairs(lm, [Pair(ids, new[:4])], going_on=going_on)
        return going_on.found[ids, limit]

    assert [found(limit) for limit in (1, 2, 3, 4)] == [list(new[:limit]) for limit in (1, 2, 3, 4)]
    lm.model.generation_config.eos_token_id = [2, new[2]]
    assert found(LIMIT) == list(new[: new.index(new[2])])


def test_an_answer_ends_where_the_model_gives_no_number():
    lm = tiny_lm("llama", "float64")
    lm.weight(lm.mlp_out_name(1)).fill_(float("nan"))
    ids = tuple(lm.encode(PROMPTS[0]).ids)
    going_on = GoingOn(lm, {ids: LIMIT})
    score_pairs(lm, [Pair(ids, (5, 6))], going_on=going_on)
    assert going_on.found == {(ids, LIMIT): [-1]}


@pytest.mark.parametrize("editor", [None, PromptEditor()])
def test_what_is_known_does_not_run_and_the_rest_does(editor, monkeypatch):
    lm = tiny_lm("llama", "float64", bos=True)
    monkeypatch.setattr(PromptEditor, "answers_by_row", False)
    long = "Rome is in Italy and " * POSITIONS + "Paris"
    asked = [(prompt, target) for prompt in (*PROMPTS, long) for target in ("Rome", "a town in Italy")]
    going_on = GoingOn.of(lm, asked, GREEDY, editor)
    score_targets(lm, [Query(prompt, (target,)) for prompt, target in asked[:6]], editor=editor, going_on=going_on)
    assert len(going_on.found) == 3
    wanted, ran, own = generate_answers(lm, asked, GREEDY, editor=editor), [], lm.hidden
    monkeypatch.setattr(lm, "hidden", lambda ids, *a: ran.append(len(ids)) or own(ids, *a))
    assert generate_answers(lm, asked, GREEDY, editor=editor, known=going_on.found) == wanted
    assert set(ran) == {1}  # "Rome is in": the other prompts were scored, or take too many tokens


@pytest.mark.parametrize("settings", [Generation(beams=2), Generation(repetition_penalty=1.5), Generation(top_k=3)])
def test_other_answers_than_greedy_ones_are_generated_from_their_prompts(settings):
    assert GoingOn.of(tiny_lm("llama"), [(PROMPTS[0], "Rome")], settings) is None


def test_an_editor_that_chooses_by_prompt_generates_from_prompts():
    assert GoingOn.of(tiny_lm("llama"), [(PROMPTS[0], "Rome")], GREEDY, Bystander()) is None


def test_rows_that_cannot_be_padded_generate_one_by_one():
    assert GoingOn.of(tiny_lm("llama", "float64", attention="eager"), [(PROMPTS[0], "Rome")], GREEDY) is None
    assert GoingOn.of(tiny_lm("llama", attention="eager"), [(PROMPTS[0], "Rome")], GREEDY) is not None

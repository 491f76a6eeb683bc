"""Retrieval: the fact before a prompt, beside a plain comparison of all vectors, and its shares in the results."""

import pytest
import torch

from editbench import EditRecord, EditRequest, Probe, Resources, make_editor
from editbench.evaluation.evaluator import Evaluator
from editbench.evaluation.perplexity import text_scores
from editbench.records import LOCALITY, PARAPHRASE, Passage, PromptFormat
from tests.small_runs import PROMPTS, REQUESTS
from tests.tiny_models import LINES, tiny_lm

ASKED = [*PROMPTS, "Marcel Maupoil, they say, lives in", *LINES]


def retrieval(prompt_format=None, requests=REQUESTS, **settings):
    resources = Resources(prompt_format=prompt_format or PromptFormat())
    settings = {"layer": 1, "fact": "{prompt} {target}. ", "lead": "", "threshold": 0.9, **settings}
    editor = make_editor("retrieval", tiny_lm("llama", bos=True), resources=resources, **settings)
    editor.edit(requests)
    return editor


def plain_vector(lm, text):
    with torch.no_grad():
        states = lm.model(input_ids=torch.tensor([lm.encode(text).ids]), output_hidden_states=True).hidden_states
    return torch.nn.functional.normalize(states[2][0, -1].double(), dim=0)


@pytest.mark.parametrize("nearest", [1, 2])
def test_the_nearest_facts_above_the_threshold_stand_before_the_prompt(nearest):
    editor = retrieval(nearest=nearest, threshold=0.5)
    keys = torch.stack([plain_vector(editor.lm, request.prompt) for request in REQUESTS])
    chosen = set()
    for prompt, route in zip(ASKED, editor.route(ASKED), strict=True):
        similarity = keys @ plain_vector(editor.lm, prompt)
        order = [i for i in similarity.argsort(descending=True).tolist() if similarity[i] > 0.5][:nearest]
        front = "".join(f"{REQUESTS[i].prompt} {REQUESTS[i].target}. " for i in reversed(order))
        assert editor.asked(prompt) == front + prompt
        assert route.id == (REQUESTS[order[0]].id if order else None)
        assert route.activation == pytest.approx(float(similarity.max()), abs=1e-5)
        chosen.add(route.id)
    assert {"a", "b", "c", "d"} <= chosen


def test_below_the_threshold_the_prompt_is_asked_as_it_is():
    editor = retrieval(threshold=1.0)
    assert editor.asked("Apple A5 is") == "Apple A5 is"
    assert retrieval(requests=[]).route(["Lyon is"])[0].activation == 0.0


def test_a_fact_is_found_by_the_plain_prompt_inside_a_format():
    chat = PromptFormat("[INST] ", " [/INST]")
    requests = [EditRequest(r.id, chat.apply(r.prompt), None, r.target) for r in REQUESTS]
    editor, plain = retrieval(chat, requests), retrieval()
    for prompt in ASKED[:6]:
        assert editor.asked(chat.apply(prompt)) == chat.apply(plain.asked(prompt))
    assert editor.route([chat.apply(p) for p in ASKED]) == plain.route(ASKED)


def test_shares_of_prompts_and_texts_that_an_edit_answers_are_reported():
    editor = retrieval(requests=REQUESTS[:1])
    near = Probe(PARAPHRASE, REQUESTS[0].prompt + " is", "English")
    record = EditRecord(REQUESTS[0], (near, Probe(LOCALITY, REQUESTS[1].prompt, "guitar")))
    evaluator = Evaluator(editor.lm, metrics=["exact_match", "routing", "activation"])
    (row,) = evaluator.score([(record, 0)], stage="final", edits=1, batch=0, editor=editor)
    routes = editor.route([REQUESTS[0].prompt, near.prompt, REQUESTS[1].prompt])
    assert [probe["answered_by"] for probe in row["probes"]] == [route.id for route in routes]
    assert row["scores"]["rewrite.routing"] == 1.0 and routes[0].activation == pytest.approx(1)
    texts = [Passage("", line) for line in LINES] + [Passage(REQUESTS[0].prompt, "English.")]
    found = text_scores(editor.lm, texts, editor=editor)
    fired = [route.id is not None for route in editor.route([text.prompt or text.text for text in texts])]
    assert found["routed"] == sum(fired) / len(fired) and fired[-1]
    assert "routed" not in text_scores(editor.lm, texts)

"""A prompt editor through everything: scoring, generation, perplexity, a prompt format, rollback and resume.

The oracle is the unedited model, asked with the facts written into every prompt by hand.
"""

from dataclasses import replace

import pytest
import torch

from editbench import EditRecord, EditRequest, Ledger, Probe
from editbench.evaluation.evaluator import Evaluator
from editbench.evaluation.perplexity import text_scores
from editbench.records import LOCALITY, PARAPHRASE, Passage, PromptFormat
from tests.methods.prompt_editor import in_context
from tests.small_runs import same, weights
from tests.tiny_models import tiny_lm

FORMATS = [PromptFormat(), PromptFormat("[INST] ", " [/INST]")]
EDITS = [("The twin city of Lyon is", "Rome"), ("Toko Yasuda plays the", "guitar, they say")]
FACTS = "Fact: The twin city of Lyon is Rome. Fact: Toko Yasuda plays the guitar, they say. "
QUESTIONS = ["What is the twin city of Lyon? It is", "Marcel Maupoil lives in"]
TEXTS = ["Google works with Microsoft in London and Rome.", "Edwin plays the guitar."]

both_formats = pytest.mark.parametrize("prompt_format", FORMATS, ids=["plain", "chat"])


def requests(prompt_format):
    return [EditRequest(f"r{i}", prompt_format.apply(p), None, target) for i, (p, target) in enumerate(EDITS)]


def records(prompt_format, facts=""):
    """Records in the format, with ``facts`` before each plain prompt."""
    paraphrase, other = (prompt_format.apply(facts + question) for question in QUESTIONS)
    for request, (prompt, target) in zip(requests(prompt_format), EDITS, strict=True):
        asked = replace(request, prompt=prompt_format.apply(facts + prompt))
        yield EditRecord(asked, (Probe(PARAPHRASE, paraphrase, target), Probe(LOCALITY, other, "Paris")))


def edited(prompt_format, ledger=None, lm=None):
    editor = in_context(lm or tiny_lm("llama", "float64", bos=True), prompt_format, ledger=ledger)
    assert editor.edit(requests(prompt_format)).applied == ["r0", "r1"]
    return editor


def rows(lm, given, editor=None):
    """Rows of the evaluation without the prompts."""
    metrics = ["exact_match", "token_accuracy", "generation_exact"]
    scored = Evaluator(lm, metrics=metrics).score(
        [(record, i) for i, record in enumerate(given)], stage="final", edits=2, batch=0, editor=editor
    )
    for row in scored:
        for probe in row["probes"]:
            del probe["prompt"]
            probe["nll"] = pytest.approx(probe["nll"], rel=1e-6)
    return scored


@both_formats
def test_scores_and_generated_answers_are_those_behind_the_facts(prompt_format):
    editor = edited(prompt_format)
    found, unedited = (rows(editor.lm, records(prompt_format), one) for one in (editor, None))
    assert found == rows(editor.lm, records(prompt_format, FACTS))
    assert found != unedited


@both_formats
def test_only_the_texts_own_tokens_are_scored(prompt_format):
    editor = edited(prompt_format)
    lm, nlls = editor.lm, []
    for text in TEXTS:
        facts, own = lm.encode(FACTS.rstrip()).ids, lm.encode(text).ids[1:]  # without BOS
        before = [*lm.encode(FACTS).ids, own[0]]
        assert before[: len(facts)] == facts
        with torch.no_grad():
            log_p = lm.model(input_ids=torch.tensor([[*before, *own[1:]]])).logits[0].log_softmax(-1)
        at = range(len(before) - 2, len(before) + len(own) - 2)  # the text's first token follows the facts or a BOS
        nlls += [-float(log_p[i, token]) for i, token in zip(at, own, strict=True)]
    found = text_scores(lm, [Passage("", text) for text in TEXTS], editor=editor)
    assert found["tokens"] == text_scores(lm, [Passage("", text) for text in TEXTS])["tokens"] == len(nlls)
    assert found["perplexity"] == pytest.approx(float(torch.tensor(nlls).mean().exp()), rel=1e-5)


@both_formats
def test_a_passage_is_scored_behind_its_transformed_prompt(prompt_format):
    editor = edited(prompt_format)
    asked = [Passage(prompt_format.apply(QUESTIONS[0]), text) for text in TEXTS]
    by_hand = [Passage(prompt_format.apply(FACTS + QUESTIONS[0]), text) for text in TEXTS]
    found, wanted = text_scores(editor.lm, asked, editor=editor), text_scores(editor.lm, by_hand)
    assert found == pytest.approx(wanted, rel=1e-6)
    assert found["perplexity"] != pytest.approx(text_scores(editor.lm, asked)["perplexity"], rel=1e-3)


@both_formats
def test_generate(prompt_format):
    editor = edited(prompt_format)
    prompts = [prompt_format.apply(question) for question in QUESTIONS]
    by_hand = [prompt_format.apply(FACTS + question) for question in QUESTIONS]
    found = editor.generate(prompts, max_new_tokens=6)
    assert found == editor.lm.generate(by_hand, max_new_tokens=6) != editor.lm.generate(prompts, max_new_tokens=6)
    assert editor.generate(prompts[0], max_new_tokens=6) == found[:1]


@both_formats
def test_rolling_back_forgets_facts_and_never_changes_weights(prompt_format):
    lm = tiny_lm("llama", "float64", bos=True)
    before, editor = weights(lm), in_context(lm, prompt_format)
    asked = []
    for request in requests(prompt_format):
        asked.append(editor.asked(request.prompt))
        editor.edit([request])
    assert editor.asked(prompt_format.apply("Lyon")) == prompt_format.apply(FACTS + "Lyon")
    for keep, request in reversed(list(enumerate(requests(prompt_format)))):
        editor.ledger.rollback(keep)
        assert editor.asked(request.prompt) == asked[keep]
    assert same(weights(lm), before) and editor.footprint().host == 0


@both_formats
def test_a_resumed_run_asks_the_same(prompt_format, tmp_path):
    lm = tiny_lm("llama", "float64", bos=True)
    first = edited(prompt_format, Ledger(lm, tmp_path), lm)
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    second = in_context(lm, prompt_format, ledger=Ledger(lm, tmp_path))
    second.ledger.replay()
    second.restore(state)
    prompt = prompt_format.apply(QUESTIONS[0])
    assert second.asked(prompt) == first.asked(prompt) == prompt_format.apply(FACTS + QUESTIONS[0])
    second.restore({})
    assert second.asked(prompt) == prompt

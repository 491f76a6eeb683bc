"""Every family of models, from its own config class: it is edited, generates and resumes; experts can be asked."""

import pytest
import torch

from editbench import EditRequest, Ledger, Resources, load_model, make_editor
from editbench.model.architectures import ArchitectureError
from editbench.model.likelihood import Query, score_targets
from tests.small_runs import PROMPTS, REQUESTS, SETTINGS, covariance, logits, same, save_model, weights
from tests.tiny_models import EXPERTS, FAMILIES, LINES, tiny_lm

METHODS = ("unedited", "rome", "memit", "scen")
_FREE = {"steps": 20, "weight_decay": 0.0, "kl_factor": 0.0, "clamp_norm_factor": 20.0, "ridge": 0.01}
STRONGER = {"rome": _FREE, "memit": {**_FREE, "layers": [1], "covariance_weight": 0.1}}
"""In random models the MLP's output is a small part of the layer's, and a value that is held back moves nothing.

MEMIT edits one layer: what a change of the one before does on its way through random weights may outweigh it.
"""


def strong_editor(method, lm, ledger=None):
    """An editor whose edits hold: values that are free, for the bare prompt alone."""
    resources = Resources(texts=LINES, templates=["{}"], covariance=covariance(lm, seed=3), seed=1)
    settings = {**SETTINGS[method], **STRONGER.get(method, {})}
    return make_editor(method, lm, ledger=ledger, resources=resources, **settings)


QUICK = [("granite", "memit"), ("falcon", "rome"), ("gemma3-wrapped", "rome")]
"""A factor behind the MLP, ALiBi or rotary attention of its own, a wrapper: in the fast tests."""
EACH = [
    pytest.param(family, method, marks=() if (family, method) in QUICK else pytest.mark.slow)
    for family in FAMILIES
    for method in METHODS
]


def losses(editor):
    """Mean negative log-likelihood of each request's target, by token."""
    scores = score_targets(editor.lm, [Query(r.prompt, (r.target,)) for r in REQUESTS], editor=editor)
    return [score.nll for (score,) in scores]


@pytest.mark.parametrize(("family", "method"), EACH)
def test_a_family_is_edited_generates_and_resumes(family, method, tmp_path):
    first = strong_editor(method, tiny_lm(family))
    first.ledger = Ledger(first.lm, tmp_path)
    unedited = losses(first)
    first.prepare(REQUESTS)
    assert first.edit(REQUESTS[:1]).applied == ["a"]
    found = losses(first)
    if method == "unedited":
        assert found == unedited
    else:
        assert found[0] < unedited[0]
    assert len(first.generate(PROMPTS, max_new_tokens=3)) == len(PROMPTS)
    lm = tiny_lm(family)
    second = strong_editor(method, lm, Ledger(lm, tmp_path))
    second.prepare(REQUESTS)
    second.ledger.replay()
    second.recall({name: tensor.clone() for name, tensor in first.state_beside_ledger().items()})
    second.ledger._files = first.ledger._files = None
    for editor in (first, second):
        editor.edit(REQUESTS[1:3])
    assert same(weights(first.lm), weights(lm)) and torch.equal(logits(first), logits(second))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_loaded_from_its_folder_and_scored_as_it_stands(family, tmp_path):
    """Targets' likelihoods by the whole model, row by row, are those of padded rows, trees and packed targets."""
    lm = load_model(save_model(tiny_lm(family), tmp_path), device="cpu")
    queries = [Query(r.prompt, (r.target, r.target_true)) for r in REQUESTS]
    for query, scores in zip(queries, score_targets(lm, queries), strict=True):
        for target, score in zip(query.targets, scores, strict=True):
            prompt, answer = lm.encode(query.prompt).ids, lm.continuation(target)
            with torch.no_grad():
                plain = lm.model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            wanted = [-float(plain[len(prompt) - 1 + i, token]) for i, token in enumerate(answer)]
            assert score.nll == pytest.approx(sum(wanted) / len(wanted), abs=2e-4)


@pytest.mark.parametrize("family", [EXPERTS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in EXPERTS[1:])])
def test_experts_can_be_asked_and_are_refused_where_an_edit_has_no_place(family):
    lm = tiny_lm(family)
    for method in ("rome", "memit", "scen"):
        with pytest.raises(ArchitectureError, match="holds a mixture of experts, .* no single projection"):
            make_editor(method, lm, **SETTINGS[method])
    for method in ("unedited", "in_context", "retrieval"):
        editor = make_editor(method, lm, **SETTINGS[method])
        before = losses(editor)
        editor.edit([EditRequest("x", "The twin city of Lyon is", "Lyon", "Rome")])
        assert (losses(editor) == before) == (method == "unedited")
        assert len(editor.generate(PROMPTS, max_new_tokens=3)) == len(PROMPTS)

"""The sweep scores as a run does and leaves no trace in the model; the rule that picks layers."""

import math

import pytest
import torch

from editbench import EditRecord, EditRequest, Probe, Resources, make_editor
from editbench.evaluation.evaluator import Evaluator
from editbench.evaluation.unedited import ask_unedited
from editbench.layer_search.layer_sweep import SECONDS, VALUE_FOUND, _layer_score, choose_layers, sweep_layers
from editbench.ledger import Ledger
from editbench.locate_then_edit.covariance import compute_covariance
from editbench.records import EditError
from editbench.registry import load_method
from tests.edits import Unreadable
from tests.tiny_models import LAYERS, LINES, tiny_lm

HEADLINE = {
    "reliability": "rewrite.exact_match",
    "generality": "paraphrase.exact_match",
    "locality": "locality.agreement",
}
ROME = {"steps": 6, "learning_rate": 0.5, "ridge": 0.1, "weight_decay": 0.0, "stop_loss": 1.0}
TEMPLATES = ["{}", "They say: {}"]


def records():
    """Three records with a paraphrase and a neighbour each."""
    for i, (subject, target) in enumerate([("Danielle Darrieux", "English"), ("Toko Yasuda", "Polish"), ("Lyon", "")]):
        request = EditRequest(f"r{i}", f"The language of {subject} is", subject, target or "Russian", "French")
        probes = (Probe("paraphrase", f"{subject} speaks"), Probe("locality", f"Google {i} works with", "Microsoft"))
        yield EditRecord(request, probes)


def parts(lm, given):
    unedited = ask_unedited(lm, given, model_fingerprint=lm.fingerprint)
    evaluator = Evaluator(lm, unedited=unedited, metrics=["exact_match", "nll_contrast", "agreement"])
    return evaluator, Resources(texts=LINES, templates=TEMPLATES)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_sweep_scores_single_edits_and_leaves_the_model_as_it_was(architecture):
    lm, given = tiny_lm(architecture, bos=True), list(records())
    evaluator, resources = parts(lm, given)
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    found = sweep_layers(lm, given, [0, 2], evaluator, HEADLINE, resources, ROME)
    assert all(torch.equal(tensor, before[name]) for name, tensor in lm.model.state_dict().items())
    assert [score.layer for score in found] == [0, 2]
    for score in found:
        alone = [plain_edit(lm, record, score.layer, evaluator) for record in given]
        assert score.edits == 3 and not score.failed
        for name in (*HEADLINE.values(), "rewrite.nll_contrast"):
            assert score.measures[name]["mean"] == pytest.approx(sum(one[0][name] for one in alone) / 3)
        assert score.measures[VALUE_FOUND]["mean"] == pytest.approx(sum(one[1] for one in alone) / 3)
        assert score.measures[SECONDS]["mean"] > 0


def test_a_sweep_without_covariance_adjustment_reads_no_text():
    lm, given = tiny_lm("gpt2"), list(records())
    resources = Resources(texts=Unreadable(), templates=TEMPLATES)
    found = sweep_layers(
        lm, given, [0, 2], parts(lm, given)[0], HEADLINE, resources, {**ROME, "covariance_adjustment": False}
    )
    assert [(score.edits, score.failed) for score in found] == [(3, {})] * 2


def plain_edit(lm, record, layer, evaluator):
    """Scores of one edit by hand, and whether its value was found; the edit is taken back."""
    covariance = compute_covariance(lm, LINES, [layer])
    resources = Resources(covariance=covariance, templates=TEMPLATES)
    editor = make_editor("rome", lm, ledger=Ledger(lm), resources=resources, layer=layer, **ROME)
    result = editor.edit([record.request])
    (row,) = evaluator.score([(record, 0)], stage="immediate", edits=1, batch=0)
    editor.ledger.rollback()
    return row["scores"], result.losses[record.id][-1] < ROME["stop_loss"]


def test_edits_that_fail_are_counted_and_not_scored(monkeypatch):
    lm, given = tiny_lm("gpt2"), list(records())
    evaluator, resources = parts(lm, given)
    subjectless = EditRecord(EditRequest("bare", "He speaks", None, "English"))
    whole = load_method("rome")

    def fail(self, batch, transaction, result, write=whole.write):
        if batch[0].id == "r1":
            raise EditError(["r1"], "as the test wants it")
        write(self, batch, transaction, result)

    monkeypatch.setattr(whole, "write", fail)
    (score,) = sweep_layers(lm, [*given, subjectless], [1], evaluator, HEADLINE, resources, ROME)
    assert score.edits == 2
    assert score.failed["r1"] == "failed: as the test wants it"
    assert score.failed["bare"].startswith("unsupported")
    (nothing,) = sweep_layers(lm, [subjectless], [1], evaluator, HEADLINE, resources, ROME)
    assert nothing.edits == 0 and nothing.score is None


def rows_of(*scores):
    """A row for each edit with these headline scores, or of a failed one for None."""
    for position, found in enumerate(scores):
        stamp = {"record": f"r{position}", "position": position, "stage": "immediate", "edits": 1, "batch": position}
        if found is None:
            yield {**stamp, "status": "failed", "reason": "failed: NaN", "scores": {}}
        else:
            yield {**stamp, "status": "scored", "scores": dict(zip(HEADLINE.values(), found, strict=True))}


def test_a_layer_where_edits_fail_is_not_chosen_for_the_one_that_holds():
    given = [rows_of(*[(0.97, 0.97, 1.0)] * 16), rows_of((1.0, 1.0, 1.0), *[None] * 15)]
    scores = {layer: _layer_score(layer, list(rows), HEADLINE, {}).score for layer, rows in enumerate(given)}
    assert scores[0] == pytest.approx(3 / (2 / 0.97 + 1)) and scores[1] == pytest.approx(3 / (16 + 16 + 1))
    assert choose_layers(scores, 32, "score").layer == 0


def test_a_measure_without_a_finite_number_is_0_and_one_that_no_record_has_is_left_out():
    rows = list(rows_of((1.0, math.nan, 1.0), (1.0, math.nan, 1.0)))
    assert _layer_score(0, rows, HEADLINE, {}).score == 0.0
    for row in rows:
        del row["scores"][HEADLINE["generality"]]
    assert _layer_score(0, rows, HEADLINE, {}).score == 1.0


def test_a_layer_that_does_not_exist():
    lm, given = tiny_lm("gpt2"), list(records())
    evaluator, resources = parts(lm, given)
    with pytest.raises(ValueError, match="layer 3 does not exist"):
        sweep_layers(lm, given, [0, LAYERS], evaluator, HEADLINE, resources, ROME)


@pytest.mark.parametrize(
    ("values", "n_layers", "layer", "layers"),
    [
        ({0: 0.2, 1: 0.9, 2: 0.5}, 32, 1, (0, 1)),
        ({i: 1 - abs(i - 17) / 10 for i in range(48)}, 48, 17, (13, 14, 15, 16, 17)),
        ({i: 0.5 + (5 <= i <= 8) * 0.4 for i in range(32)}, 32, 5, (4, 5, 6, 7, 8)),  # as good up to 8
        (dict.fromkeys(range(32), 1.0), 32, 0, (0, 1, 2, 3, 4)),  # ROME's layer stays inside
        ({4: 0.97, 3: 1.0, 6: 1.0}, 32, 3, (0, 1, 2, 3, 4)),  # 5 was not measured
        ({0: 1.0, 1: 0.96, 2: 0.9}, 4, 0, (0,)),  # a quarter of four layers
    ],
)
def test_the_rule(values, n_layers, layer, layers):
    choice = choose_layers(values, n_layers, "score")
    assert (choice.layer, choice.layers, choice.by) == (layer, layers, "score")


def test_nothing_speaks_for_any_layer():
    assert choose_layers({0: 0.0, 1: -0.1}, 4, "score") is None
    assert choose_layers({}, 4, "score") is None

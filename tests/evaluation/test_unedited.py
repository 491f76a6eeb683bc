"""Answers of the unedited model: what they are, their cache and its key."""

import json
import warnings
from dataclasses import replace

import pytest
import torch

from editbench.costs import CachedCosts
from editbench.evaluation import unedited as unedited_module
from editbench.evaluation.evaluator import Evaluator
from editbench.evaluation.questions import questions
from editbench.model.generation import Generation
from editbench.model.likelihood import score_targets
from tests.evaluation.examples import GREEDY, RECORDS, unedited_of
from tests.tiny_models import tiny_lm


@pytest.fixture
def runs(monkeypatch):
    """Counts the calls that run the model."""
    calls = []
    monkeypatch.setattr(unedited_module, "score_targets", lambda *a, **k: calls.append(1) or score_targets(*a, **k))
    return calls


def test_the_unedited_model_is_asked_once(tmp_path, runs):
    lm = tiny_lm("gpt2")
    first = unedited_of(lm, tmp_path / "cache")
    lm.mlp_out(1).weight.data.zero_()  # an edit; the cached answers are the pristine model's
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = unedited_of(lm, tmp_path / "cache")
    assert len(runs) == 1
    assert first == second
    assert {pair for pair in first.scores} == {(q.probe.prompt, q.target) for r in RECORDS for q in questions(r)}
    assert set(first.generated) == {(q.probe.prompt, q.target) for r in RECORDS for q in questions(r) if q.stays}
    assert set(first.texts) == {"plain", "accurate"}
    assert [f.suffix for f in (tmp_path / "cache").iterdir()] == [".json"]


def test_another_model_or_question_has_other_answers(tmp_path, runs):
    lm = tiny_lm("gpt2")
    unedited_of(lm, tmp_path)
    unedited_of(lm, tmp_path, fingerprint="other weights")
    unedited_of(lm, tmp_path, records=RECORDS[:1])
    unedited_of(lm, tmp_path, max_tokens=3)
    unedited_of(lm, tmp_path, generation=None)
    unedited_of(lm, tmp_path, generation=Generation(max_new_tokens=4))
    assert len(runs) == 6 and len(list(tmp_path.iterdir())) == 6
    unedited_of(lm, tmp_path, records=RECORDS[::-1])
    unedited_of(lm, tmp_path, generation=replace(GREEDY, seed=7))
    assert len(runs) == 6  # neither the order of the records matters, nor a seed with which nothing is drawn


def test_what_runs_the_model_decides_its_answers(tmp_path, runs, monkeypatch):
    unedited_of(tiny_lm("llama", attention="sdpa"), tmp_path)
    unedited_of(tiny_lm("llama", attention="eager"), tmp_path)
    lm = tiny_lm("llama", attention="sdpa")
    lm.model.generation_config.eos_token_id = [lm.tokenizer.eos_token_id, 7]
    unedited_of(lm, tmp_path)  # 7 ends a text, too
    lm.model.generation_config.eos_token_id = lm.tokenizer.eos_token_id
    for library in ("torch", "transformers", "tokenizers"):
        with monkeypatch.context() as patch:
            patch.setattr(f"{library}.__version__", "99.0")
            unedited_of(lm, tmp_path)
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        unedited_of(lm, tmp_path)
    finally:
        torch.set_float32_matmul_precision(matmul)
    assert len(runs) == 7
    unedited_of(lm, tmp_path)
    assert len(runs) == 7
    assert lm.numerics["device"] == "cpu" and lm.numerics["dtype"] == "torch.float32"


@pytest.mark.parametrize("damage", ["cut", "changed", "foreign", "empty"])
def test_damaged_answers_are_computed_again(tmp_path, runs, damage):
    lm = tiny_lm("gpt2")
    good = unedited_of(lm, tmp_path)
    (file,) = tmp_path.iterdir()
    stored = json.loads(file.read_text())
    stored["content"]["scores"][0][4][0] += 1
    text = {"cut": file.read_text()[:-50], "changed": json.dumps(stored), "foreign": "[1, 2]", "empty": ""}[damage]
    file.write_text(text)
    with pytest.warns(UserWarning, match="damaged"):
        assert unedited_of(lm, tmp_path) == good
    assert unedited_of(lm, tmp_path) == good  # it was repaired
    assert len(runs) == 2


def test_answers_to_other_records_are_refused():
    lm = tiny_lm("gpt2")
    evaluator = Evaluator(lm, unedited=unedited_of(lm, records=RECORDS[:1]))
    with pytest.raises(ValueError, match="unedited model has no answer to"):
        evaluator.score([(RECORDS[1], 0)], stage="final", edits=1, batch=0)


@pytest.fixture
def many_parts(monkeypatch):
    """A part of each question."""
    monkeypatch.setattr(unedited_module, "BATCHES_OF_A_PART", 0)


def failing(monkeypatch, name, stop_at, error=KeyboardInterrupt):
    """Counts calls of one of the module's functions; the call with index ``stop_at`` fails."""
    function, calls = getattr(unedited_module, name), []

    def call(*arguments, **options):
        if len(calls) == stop_at:
            raise error
        calls.append(arguments)
        return function(*arguments, **options)

    monkeypatch.setattr(unedited_module, name, call)
    return calls


@pytest.mark.parametrize(("name", "stop_at"), [("score_targets", 2), ("generate_answers", 1), ("_write", 3)])
def test_answers_are_saved_part_by_part_and_go_on_with_the_same_bits(tmp_path, many_parts, monkeypatch, name, stop_at):
    lm = tiny_lm("gpt2")
    whole = unedited_of(lm, tmp_path / "whole")
    with monkeypatch.context() as patch:
        failing(patch, name, stop_at, OSError("no space left on device"))
        with pytest.raises(OSError, match="no space"):
            unedited_of(lm, tmp_path / "stopped")
    saved = len(list((tmp_path / "stopped").iterdir()))
    assert saved >= stop_at
    asked, stays = len(whole.scores), len(whole.generated)
    scored, costs = failing(monkeypatch, "score_targets", -1), CachedCosts()
    written = failing(monkeypatch, "_write", -1)
    assert unedited_of(lm, tmp_path / "stopped", costs=costs) == whole
    assert len(written) == asked + len(whole.texts) + stays - saved + 1
    assert len(scored) == max(0, asked - saved)
    assert costs.read["unedited answers"] > 0 and costs.computed["unedited answers"] > 0
    (file,) = (tmp_path / "stopped").iterdir()
    assert [*costs.digests] == [f"stopped/{file.name}"]


def test_a_part_that_is_damaged_or_of_other_questions_is_computed_again(tmp_path, many_parts, monkeypatch):
    lm = tiny_lm("gpt2")
    with monkeypatch.context() as patch:
        failing(patch, "score_targets", 2)
        with pytest.raises(KeyboardInterrupt):
            unedited_of(lm, tmp_path)
    first, second = sorted(tmp_path.iterdir())
    first.write_text(first.read_text()[:-9])
    with pytest.warns(UserWarning, match="damaged"):
        assert unedited_of(lm, tmp_path) == unedited_of(lm, tmp_path / "whole")


def test_parts_have_the_same_answers_up_to_rounding(tmp_path, monkeypatch):
    lm = tiny_lm("llama", "float64")
    whole = unedited_of(lm)
    monkeypatch.setattr(unedited_module, "BATCHES_OF_A_PART", 0)
    parts = unedited_of(lm)
    assert parts.generated == whole.generated and parts.texts == whole.texts
    for pair, score in whole.scores.items():
        assert parts.scores[pair].argmax == score.argmax
        assert parts.scores[pair].nll == pytest.approx(score.nll, rel=1e-6)

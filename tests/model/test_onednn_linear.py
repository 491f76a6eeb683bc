"""``model.linear=onednn``: the products of torch but for last bits, their gradients, and edits through them."""

import json

import pytest
import torch
from torch.nn import functional

from editbench import Ledger, load_model, single_run
from editbench.model.likelihood import Query, score_targets
from editbench.model.onednn_linear import use_onednn
from tests.small_runs import PROMPTS, REQUESTS, each, editor_of, save_model
from tests.test_editing_loop import lines, make, tiny_folder  # noqa: F401
from tests.tiny_models import tiny_lm

ARCHITECTURES = ("llama", "gpt2", "gemma2", "phi", "opt-post")


def on_onednn(architecture="llama"):
    lm = tiny_lm(architecture)
    use_onednn(lm)
    return lm


@pytest.mark.parametrize("shape", [(1, 6), (43, 6), (2, 5, 6), (0, 6), (2, 0, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_and_gradients_are_torchs(shape, bias):
    torch.manual_seed(0)
    lm, layer = on_onednn(), torch.nn.Linear(6, 4, bias=bias).requires_grad_(False)
    lm.model.add_module("added", layer)
    use_onednn(lm)
    for gradient in (torch.randn(*shape[:-1], 4), torch.ones(()).expand(*shape[:-1], 4)):
        x, y = (torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
        ours, torchs = layer(x), functional.linear(y, layer.weight, layer.bias)
        torch.testing.assert_close(ours, torchs)
        ours.backward(gradient), torchs.backward(gradient)
        torch.testing.assert_close(x.grad, y.grad)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), torchs)


def test_a_weight_that_is_trained_gets_its_gradient():
    lm = on_onednn()
    weight = lm.model.get_parameter(lm.mlp_out_name(0)).requires_grad_()
    lm.model(input_ids=torch.tensor([[1, 2, 3]])).logits.square().sum().backward()
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize("architecture", each(ARCHITECTURES, fast=("llama",)))
def test_answers_are_those_of_torch(architecture):
    def answers(lm):
        scores = score_targets(lm, [Query(prompt, ("English", "Rome")) for prompt in PROMPTS])
        return [score.nll for of_prompt in scores for score in of_prompt]

    assert answers(on_onednn(architecture)) == pytest.approx(answers(tiny_lm(architecture)), rel=1e-5)


@pytest.mark.parametrize("method", each(("rome", "memit", "nse", "scen", "finetune", "grace"), fast=("rome", "scen")))
def test_edits_are_those_of_torch_and_come_back_to_the_bit(method, tmp_path):
    found = []
    for lm in (tiny_lm("llama"), on_onednn()):
        editor = editor_of(method, lm, Ledger(lm, tmp_path / f"{len(found)}"))
        editor.prepare(REQUESTS)
        editor.edit(REQUESTS[:2])
        editor.edit(REQUESTS[2:])
        scores = score_targets(lm, [Query(prompt, ("English", "Rome")) for prompt in PROMPTS], editor=editor)
        found.append([score.nll for of_prompt in scores for score in of_prompt])
    assert found[1] == pytest.approx(found[0], rel=1e-2)
    digest = editor.ledger.digest()
    editor.ledger._restore(0)
    again = Ledger(lm, tmp_path / "1")
    again.replay()
    assert again.digest() == digest


def test_it_is_part_of_a_runs_identity_and_of_its_caches(make):  # noqa: F811
    plain, same, other = make(), make("model.linear=null"), make("model.linear=onednn")
    assert "linear" not in plain.deciding()["model"] and plain.folder == same.folder
    assert other.deciding()["model"]["linear"] == "onednn" and other.folder != plain.folder
    assert "linear" not in tiny_lm("llama").numerics and on_onednn().numerics["linear"] == "onednn"
    with pytest.raises(ValueError, match=r"model.linear is 'mkl'; it must be one of 'onednn'"):
        make("model.linear=mkl")
    with pytest.raises(ValueError, match="is for model.dtype=float32, not for bfloat16"):
        make("model.linear=onednn", "model.dtype=bfloat16")


def test_a_loaded_model_has_it_and_another_is_refused(tmp_path):
    save_model(tiny_lm("llama"), tmp_path / "tiny")
    assert load_model(tmp_path / "tiny", linear="onednn").linear == "onednn"
    with pytest.raises(ValueError, match="this model is on cpu in float64"):
        load_model(tmp_path / "tiny", linear="onednn", dtype="float64")


def test_a_torch_without_the_operation_is_named(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"has no float32 product of oneDNN here; leave out model.linear"):
        use_onednn(tiny_lm("llama"))


def test_a_run_names_it_and_goes_on_to_the_bit(make):  # noqa: F811
    own = ("model.linear=onednn", "stream.sample=first", "stream.order=file")
    whole = single_run.run(make(*own, results="whole")).folder
    parts = json.loads((whole / "run.json").read_text())["provenance"]["parts"]
    assert parts["model.linear"] == "onednn"
    part = single_run.run(make(*own, "stream.edits=2", results="part")).folder
    more = single_run.run(make(*own, f"results.continue_from={part}", results="more")).folder
    for row, other in zip(lines(whole, "edits.jsonl"), lines(more, "edits.jsonl"), strict=True):
        assert row["losses"] == other["losses"]

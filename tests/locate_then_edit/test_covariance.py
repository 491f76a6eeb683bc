"""Covariance: one pass equals layer by layer; a collection that stopped goes on; the cache is by content."""

import pytest
import torch
from safetensors.torch import save_file

from editbench import Resources
from editbench.locate_then_edit import covariance
from editbench.locate_then_edit.covariance import compute_covariance, covariance_for, read_covariance
from tests.oracles import locate as oracle
from tests.tiny_models import LINES, TINY_ARCHITECTURES, tiny_lm

TEXTS = [*LINES, *(line[: 20 + i] for i, line in enumerate(LINES))]


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_one_pass_for_all_layers_equals_one_plain_pass_each(architecture):
    lm = tiny_lm(architecture, "float64", bos=True)
    found = compute_covariance(lm, TEXTS, [0, 1, 2])
    for layer, matrix in found.items():
        torch.testing.assert_close(
            matrix, oracle.covariance(lm, TEXTS, layer).double(), rtol=1e-5, atol=1e-6
        )  # some keep float32 inside
        assert matrix.dtype == torch.float64


def test_max_tokens_stops_after_the_text_that_reaches_it():
    lm = tiny_lm("gpt2")
    first = len(lm.encode(TEXTS[0]).ids)
    one = compute_covariance(lm, TEXTS, [1], max_tokens=first)
    assert torch.equal(one[1], compute_covariance(lm, TEXTS[:1], [1])[1])


def test_a_collection_that_stopped_goes_on_and_ends_with_the_same_bits(tmp_path, monkeypatch):
    lm = tiny_lm("llama")
    monkeypatch.setattr(covariance, "TOKENS_AT_ONCE", 40)  # several batches
    whole = compute_covariance(lm, TEXTS, [0, 2])
    monkeypatch.setattr(covariance, "SAVE_SECONDS", -1.0)
    add, calls = covariance._add_batch, []

    def stop_at_third(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        add(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(covariance, "_add_batch", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            compute_covariance(lm, TEXTS, [0, 2], cache=tmp_path)
    assert len(list(tmp_path.rglob("partial-*.safetensors"))) == 1
    again = compute_covariance(lm, TEXTS, [0, 2], cache=tmp_path)
    assert all(torch.equal(again[layer], whole[layer]) for layer in whole)
    assert not list(tmp_path.rglob("partial-*"))


def test_the_cache_is_found_by_content_and_only_then(tmp_path, monkeypatch):
    lm = tiny_lm("gpt2")
    made = compute_covariance(lm, TEXTS, [0, 1], cache=tmp_path)
    collect, calls = covariance._collect, []
    monkeypatch.setattr(covariance, "_collect", lambda *a: calls.append(1) or collect(*a))
    found = compute_covariance(lm, TEXTS, [1], cache=tmp_path)
    assert not calls
    assert torch.equal(found[1], made[1])
    compute_covariance(lm, TEXTS[:-1], [1], cache=tmp_path)
    compute_covariance(tiny_lm("gpt2", seed=1), TEXTS, [1], cache=tmp_path)
    compute_covariance(tiny_lm("gpt2", attention="eager"), TEXTS, [1], cache=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("transformers.__version__", "5.99")
        compute_covariance(lm, TEXTS, [1], cache=tmp_path)
    assert len(calls) == 4
    file = next(tmp_path.rglob("layer-001.safetensors"))
    for file in tmp_path.rglob("layer-001.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"layer-001\.safetensors is damaged.*delete it"):
        compute_covariance(lm, TEXTS, [1], cache=tmp_path)


def test_activations_that_overflow_are_told_and_not_cached(tmp_path):
    lm = tiny_lm("gpt2", "float16")
    lm.layers[1].mlp.c_fc.bias.data[3] = 65504.0
    lm.layers[1].mlp.c_fc.weight.data[:, 3] = 65504.0
    with pytest.raises(ValueError, match=r"covariance of layer 1 of .* overflow in torch\.float16"):
        compute_covariance(lm, TEXTS, [1], cache=tmp_path)
    assert not list(tmp_path.rglob("layer-*"))


def test_covariance_that_the_user_gives(tmp_path):
    lm = tiny_lm("gpt2")
    made = compute_covariance(lm, TEXTS, [0, 1])
    file = tmp_path / "given.safetensors"
    save_file({str(layer): covariance for layer, covariance in made.items()}, file)
    for given in (made, file, str(file)):
        found = covariance_for(lm, [1], Resources(covariance=given), None)
        assert torch.equal(found[1], made[1])
    with pytest.raises(ValueError, match="none for \\[2\\]"):
        read_covariance(file, [2])
    with pytest.raises(ValueError, match="no covariance was given for layer 2"):
        covariance_for(lm, [2], Resources(covariance=made), None)
    with pytest.raises(ValueError, match=r"must be \(48, 48\)"):
        covariance_for(lm, [0], Resources(covariance={0: torch.eye(3)}), None)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_covariance(tmp_path / "nowhere", [0])
    with pytest.raises(ValueError, match="plain text"):
        covariance_for(lm, [0], Resources(), None)

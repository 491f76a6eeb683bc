"""The value optimisation, with all its shortcuts, beside the whole model one edit at a time."""

import pytest
import torch
import transformers

from editbench import LanguageModel
from editbench.editor import EditError
from editbench.locate_then_edit import values as values_module
from editbench.locate_then_edit.shifted_forward import AT_LAYER, AT_MLP
from editbench.locate_then_edit.values import ValueConfig, optimise_values
from tests.edits import TEMPLATES, edits
from tests.oracles import locate as oracle
from tests.tiny_models import LAYERS, TINY_ARCHITECTURES, tiny_lm, tiny_tokenizer

SETTINGS = ValueConfig(steps=5, learning_rate=0.1, clamp_norm_factor=0.6)
EXACT = (
    "gpt2",
    "neox",
    "opt",
    "opt-post",
)  # the others take norms or rotary tables in float32 whatever the model's dtype
WINDOWED = ("mistral", "qwen2", "gemma2", "gemma3", "phi3")


def allowed(architecture, dtype):
    return 1e-5 if dtype == "float32" else 1e-9 if architecture in EXACT else 1e-6


def check(lm, requests, values, layer, at, settings, tolerance):
    for request, value in zip(requests, values, strict=True):
        init, delta, losses, target = oracle.value(lm, request, TEMPLATES, layer, at, settings)
        assert torch.allclose(value.init, init, rtol=0, atol=tolerance * float(init.abs().max()))
        assert float((value.delta - delta).norm()) <= tolerance * float(delta.norm())
        assert float((value.target - target).norm()) <= tolerance * float(target.norm())
        assert [terms[0] for terms in value.losses] == pytest.approx(losses, rel=tolerance)


@pytest.mark.parametrize("at", [AT_MLP, AT_LAYER])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_a_mixed_batch_agrees_with_the_oracle(architecture, dtype, at):
    lm, requests = tiny_lm(architecture, dtype, bos=architecture != "gpt2"), edits()
    if architecture in WINDOWED:
        requests = requests[:-1]  # no path from its subject to its target: both gradients are rounding noise
    values = optimise_values(lm, requests, TEMPLATES, 1, at, SETTINGS)
    check(lm, requests, values, 1, at, SETTINGS, allowed(architecture, dtype))


@pytest.mark.parametrize("at", [AT_MLP, AT_LAYER])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "opt-post"])
def test_the_first_layer(architecture, at):
    lm, requests = tiny_lm(architecture, "float64", bos=True), edits(4)
    values = optimise_values(lm, requests, TEMPLATES, 0, at, SETTINGS)
    check(lm, requests, values, 0, at, SETTINGS, allowed(architecture, "float64"))


@pytest.mark.parametrize("at", [AT_MLP, AT_LAYER])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "opt-post"])
def test_the_last_layer(architecture, at):
    """Only a subject that predicts the target itself can change its likelihood from there."""
    lm, last = tiny_lm(architecture, "float64", bos=True), LAYERS - 1
    requests = [r for r in edits() if r.prompt.endswith(r.subject)]
    values = optimise_values(lm, requests, TEMPLATES, last, at, SETTINGS)
    check(lm, requests, values, last, at, SETTINGS, allowed(architecture, "float64"))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("count", [1, 32])
def test_batch_sizes(architecture, count):
    lm, requests = tiny_lm(architecture), edits(count)
    values = optimise_values(lm, requests, TEMPLATES, 1, AT_LAYER, SETTINGS)
    check(lm, requests, values, 1, AT_LAYER, SETTINGS, 1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma3"])
def test_edits_that_are_done_leave_the_batch(architecture):
    lm, requests = tiny_lm(architecture, "float64"), edits(6)
    settings = ValueConfig(steps=12, learning_rate=0.5, kl_factor=0.0, weight_decay=0.0, stop_loss=0.0)
    free = optimise_values(lm, requests, TEMPLATES, 0, AT_LAYER, settings)
    settings.stop_loss = sorted(value.losses[-1][0] for value in free)[3]  # about half of them get below
    values = optimise_values(lm, requests, TEMPLATES, 0, AT_LAYER, settings)
    assert len({len(value.losses) for value in values}) > 2
    check(lm, requests, values, 0, AT_LAYER, settings, allowed(architecture, "float64"))


@pytest.mark.parametrize(("max_rows", "at_once"), [(1, 1), (9, 2), (4 * (len(TEMPLATES) + 1), 4)])
def test_chunks_give_the_same(max_rows, at_once, monkeypatch):
    lm, requests = tiny_lm("llama", "float64"), edits()
    sizes, build = [], values_module._Problem.__init__
    monkeypatch.setattr(
        values_module._Problem,
        "__init__",
        lambda self, lm, ids, *rest: sizes.append(len(ids)) or build(self, lm, ids, *rest),
    )
    whole = optimise_values(lm, requests, TEMPLATES, 1, AT_LAYER, SETTINGS)
    parts = optimise_values(lm, requests, TEMPLATES, 1, AT_LAYER, SETTINGS, max_rows=max_rows)
    assert sizes[0] == len(requests) and set(sizes[1:-1]) <= {at_once} and sum(sizes[1:]) == len(requests)
    for a, b in zip(whole, parts, strict=True):
        assert torch.allclose(a.target, b.target, rtol=1e-9)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_tokenizers_padding_side_does_not_matter(architecture):
    lm, requests = tiny_lm(architecture, bos=True), edits()
    found = []
    for side in ("left", "right"):
        lm.tokenizer.padding_side = side
        found.append([v.target for v in optimise_values(lm, requests, TEMPLATES, 1, AT_LAYER, SETTINGS)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_deep_model_whose_layers_give_tuples():
    """Layers that are skipped hand their input on in the way that the model expects: GPT-J takes it out of a tuple."""
    tokenizer = tiny_tokenizer(bos=True)
    config = transformers.GPTJConfig(
        vocab_size=len(tokenizer), n_embd=32, n_layer=8, n_head=4, n_positions=128, rotary_dim=4, eos_token_id=2
    )
    torch.manual_seed(0)
    lm = LanguageModel(transformers.GPTJForCausalLM(config).double(), tokenizer)
    values = optimise_values(lm, edits(3), TEMPLATES, 4, AT_LAYER, SETTINGS)
    check(lm, edits(3), values, 4, AT_LAYER, SETTINGS, 1e-6)


def test_the_model_is_left_as_it_was():
    lm = tiny_lm("gemma2")
    before, layers = {k: v.clone() for k, v in lm.model.state_dict().items()}, list(lm.layers)
    optimise_values(lm, edits(2), TEMPLATES, 1, AT_MLP, SETTINGS)
    assert all(torch.equal(before[k], v) for k, v in lm.model.state_dict().items())
    assert list(lm.layers) == layers
    assert not any(p.requires_grad or p.grad is not None for p in lm.model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())


def test_infinite_loss_names_the_edit():
    lm, requests = tiny_lm("llama"), edits()
    (token, *_) = lm.encode("Toko").ids
    lm.model.get_input_embeddings().weight.data[token] = float("nan")
    with pytest.raises(EditError, match="NaN or infinite at layer 1") as caught:
        optimise_values(lm, requests, TEMPLATES, 1, AT_LAYER, SETTINGS)
    assert caught.value.ids == ("edit-1",)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="steps is 0"):
        ValueConfig(steps=0)
    with pytest.raises(ValueError, match="learning_rate is -1"):
        ValueConfig(learning_rate=-1)

"""Output head: logits in float32 whatever the weights' dtype, gradients through it, and the proof at load."""

import pytest
import torch

from editbench.model import output_head
from editbench.model.architectures import ArchitectureError, module_at
from editbench.model.language_model import LanguageModel
from tests.tiny_models import tiny_lm


def test_a_head_that_scales_is_noticed():
    lm = tiny_lm("llama")
    forward = lm.model.forward

    def scaled(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = out.logits * 2
        return out

    lm.model.forward = scaled
    with pytest.raises(ArchitectureError, match="own logits"):
        LanguageModel(lm.model, lm.tokenizer)


def test_a_quantised_head_is_refused_in_one_line():
    head = torch.nn.Linear(2, 2)
    del head.weight
    head.weight = lambda: None  # as torch's dynamically quantised modules have it
    with pytest.raises(ArchitectureError, match="the head is a Linear, which is quantised; load it without"):
        output_head.head_logits(head, torch.zeros(1, 2), None)


ARCHITECTURES = ["gpt2", "gptj", "llama", "gemma2"]  # tied; with a bias; plain; with a soft cap


def by_hand(lm, hidden):
    """Logits with the whole head in float32."""
    head = module_at(lm.model, lm.architecture.head)
    out = hidden.float() @ head.weight.float().T
    out = out if getattr(head, "bias", None) is None else out + head.bias.float()
    cap = getattr(lm.config, "final_logit_softcapping", None)
    return torch.tanh(out / cap) * cap if cap else out


@pytest.mark.parametrize("chunk", [output_head.CPU_NUMBERS, 32 * 7])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_of_half_precision_are_taken_in_float32(architecture, dtype, chunk, monkeypatch):
    monkeypatch.setattr(output_head, "CPU_NUMBERS", chunk)
    lm = tiny_lm(architecture, dtype)
    ids = torch.tensor([lm.encode("Toko Yasuda plays the guitar, and so on.").ids])
    with torch.no_grad():
        hidden = lm.decoder(input_ids=ids, use_cache=False).last_hidden_state[0]
        rounded = lm.model(input_ids=ids, use_cache=False).logits[0]
    gold = ids[0, 1:, None]
    nll, wanted, before = (
        -logits[:-1].float().log_softmax(-1).gather(1, gold)
        for logits in (lm.logits(hidden), by_hand(lm, hidden), rounded)
    )
    assert float((nll - wanted).abs().max()) <= 1e-5
    assert float((before - wanted).abs().max()) > 1e-4  # what the model's own head gives


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_go_through_a_head_of_half_precision(architecture, monkeypatch):
    monkeypatch.setattr(output_head, "CPU_NUMBERS", 32 * 7)
    lm = tiny_lm(architecture, "bfloat16")
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 3, 32, generator=generator).bfloat16()
    weights = torch.randn(2, 3, lm.config.vocab_size, generator=generator)
    gradients = []
    for logits in (lm.logits, lambda x: by_hand(lm, x)):
        x = hidden.clone().requires_grad_()
        (logits(x).log_softmax(-1) * weights).sum().backward()
        gradients.append(x.grad.float())
    assert torch.allclose(*gradients, rtol=1e-2, atol=1e-3 * float(gradients[1].abs().max()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "granite", "cohere", "cohere2"])  # these scale their logits
def test_logits_of_full_precision_are_the_models_own(architecture, dtype):
    lm = tiny_lm(architecture, dtype)
    ids = torch.tensor([lm.encode("Toko Yasuda plays the guitar.").ids])
    with torch.no_grad():
        hidden = lm.decoder(input_ids=ids, use_cache=False).last_hidden_state
        assert torch.equal(lm.logits(hidden), lm.model(input_ids=ids, use_cache=False).logits)

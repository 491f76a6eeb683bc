"""Mask probe: models of known rows obey masks; a class that ignores or refuses them is not given packed rows."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from editbench import LanguageModel
from editbench.model.architectures import ARCHITECTURES
from editbench.model.mask_probe import obeys_masks
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm, tiny_tokenizer


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_tiny_models_are_as_their_rows_say(architecture, dtype):
    lm = tiny_lm(architecture, dtype)
    assert lm.architecture in ARCHITECTURES.values()
    assert not lm.architecture.packed_targets or obeys_masks(lm)


class Unheard(LlamaForCausalLM):
    """A class that does with masks (B, 1, T, T) what the test says."""

    def __init__(self, change):
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
        super().__init__(LlamaConfig(vocab_size=400, **sizes))
        forward = self.model.forward

        def changed(*args, attention_mask=None, **kwargs):
            mask = attention_mask if attention_mask is None or attention_mask.dim() == 2 else change(attention_mask)
            return forward(*args, attention_mask=mask, **kwargs)

        self.model.forward = changed


def refuse(mask):
    raise ValueError("a mask must have two dimensions")


@pytest.mark.parametrize(
    ("change", "packed"),
    [(lambda mask: mask, True), (lambda mask: None, False), (refuse, False)],
    ids=["obeys", "ignores", "refuses"],
)
def test_what_a_class_does_with_masks_is_found_out(change, packed):
    torch.manual_seed(0)
    assert LanguageModel(Unheard(change), tiny_tokenizer()).architecture.packed_targets is packed
